"""Handlers an SMS marketing app needs: `sms.send` and `campaign.report`."""
