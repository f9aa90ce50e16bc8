"""How an attempt ended, as a worker that pulls says it of its lease."""

from datetime import UTC, datetime, timedelta
from typing import Any

from mainstay import handler
from mainstay.answers import LeasedJob
from mainstay.attempts import Failed
from mainstay.handler import Completed, Outcome

# As the built-in worker does: a job that is old, but has hardly waited, has met a worker that is
# behind the others.
NO_HANDLER_S = 30.0
NO_HANDLER_FOR = timedelta(hours=24)
NO_HANDLER_WAITS = 280
MAX_MESSAGE = 2000


def without_handler(job: LeasedJob) -> dict[str, Any]:
    """Wait for a worker that has one, a day at least."""
    is_old = job.created_at is not None and datetime.now(UTC) - job.created_at > NO_HANDLER_FOR
    if is_old and job.snoozes >= NO_HANDLER_WAITS:
        return job.discard("no_handler", f"no worker has a handler for {job.kind}")
    return job.snooze(NO_HANDLER_S)


def said_of(job: LeasedJob, ended: Outcome | Failed) -> dict[str, Any]:
    match ended:
        case Completed(result):
            return job.completed(result)
        case handler.Retry(delay_s, error):
            delay_s = None if delay_s is None else max(0.0, delay_s)
            return job.failed("retry", plain(error), delay_s=delay_s, clear_marks=True)
        case handler.Snooze(delay_s):
            return job.snooze(max(0.0, delay_s))
        case handler.Cancel(reason):
            return job.cancel(plain(reason))
        case handler.Discard(reason):
            return job.discard("discarded", plain(reason))
        case Failed():
            return job.failed(ended.type, plain(ended.message), retryable=ended.retryable)


def plain(text: str) -> str:
    """What can be sent and stored."""
    said = text[:MAX_MESSAGE].replace("\x00", "")
    return said.encode(errors="replace").decode()
