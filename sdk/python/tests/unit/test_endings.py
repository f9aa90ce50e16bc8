"""What a worker that pulls says of a job that it has no handler for."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from mainstay.answers import Lease, LeasedJob
from mainstay.endings import NO_HANDLER_S, NO_HANDLER_WAITS, without_handler


def leased(*, age: timedelta, snoozes: int) -> LeasedJob:
    now = datetime.now(UTC)
    lease = Lease(token="t", until=now + timedelta(minutes=1))
    return LeasedJob(
        id=uuid4(),
        state="running",
        kind="new",
        created_at=now - age,
        run_at=now,
        snoozes=snoozes,
        lease=lease,
    )


@pytest.mark.parametrize(
    ("age", "snoozes"),
    [
        (timedelta(0), 0),
        # Scheduled for days ahead, it is due now, and meets a worker of the former release.
        (timedelta(days=30), 0),
        (timedelta(days=30), NO_HANDLER_WAITS - 1),
        (timedelta(hours=23), NO_HANDLER_WAITS),
    ],
)
def test_it_waits_for_a_worker_that_has_one(age: timedelta, snoozes: int) -> None:
    job = leased(age=age, snoozes=snoozes)
    assert without_handler(job) == job.snooze(NO_HANDLER_S)


def test_what_is_old_and_has_waited_ends() -> None:
    said = without_handler(leased(age=timedelta(hours=25), snoozes=NO_HANDLER_WAITS))
    assert (said["outcome"], said["error"]["type"]) == ("discard", "no_handler")
