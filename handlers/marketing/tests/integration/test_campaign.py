"""What the package offers to a worker, found the way a worker finds it."""

from mainstay import handler
from mainstay.handler import Completed, Delivery
from mainstay.testing import run_job
from marketing import campaign


def test_a_worker_finds_both_handlers() -> None:
    found = handler.installed()
    assert found["sms.send"].queue == "sms"
    assert found["sms.send"].delivery is Delivery.AT_MOST_ONCE
    assert found["campaign.report"].queue == "default"


async def test_the_report_keeps_what_it_was_given() -> None:
    args = {"batch": {"completed": 3}}
    assert await run_job(campaign.report, args) == Completed(args)
