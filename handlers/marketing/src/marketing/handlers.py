"""What this package offers to a worker: the entry point `mainstay.handlers`."""

from marketing import automation, campaign, sms

HANDLERS = [sms.send, campaign.send, campaign.report, automation.run]
