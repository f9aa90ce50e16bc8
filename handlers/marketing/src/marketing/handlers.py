"""What this package offers to a worker: the entry point `mainstay.handlers`."""

from marketing import campaign, sms

HANDLERS = [sms.send, campaign.report]
