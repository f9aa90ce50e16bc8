"""One attempt at a job: what was claimed, how it ended, and what is written down about it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, assert_never
from uuid import UUID

from chassis.kernel import backoff
from chassis.kernel.clock import rfc3339
from mainstay import handler

MAX_MESSAGE = 2_000
# Whoever puts a job off for longer means never, and the calendar ends.
MAX_DELAY_S = 10 * 365 * 86_400.0
# Without a handler a job waits for one to be installed, less and less eagerly, for a day. One that
# is older, but has hardly waited so, or meets a worker that has just been started, may have met one
# that is behind the others.
NO_HANDLER_S = (5.0, 300.0)
NO_HANDLER_FOR = timedelta(hours=24)
NO_HANDLER_WAITS = 280
LACKING_FOR_S = 3600.0


class Claimed(NamedTuple):
    """A job that this worker runs under `lease_no`. (A tuple: thousands are made a second.)

    `retry` is the job's policy, else its queue's; `timeout_s` None leaves it to the handler.
    `is_sealed`: at rest its args are sealed; `is_broken`: and cannot be opened.
    """

    id: UUID
    lease_no: int
    lane: int
    queue: str
    kind: str
    shop: str | None
    attempt: int
    max_attempts: int
    snoozes: int
    timeout_s: float | None
    retry: Mapping[str, float]
    tags: Sequence[str]
    batch_id: UUID | None
    created_at: datetime
    run_at: datetime
    args: Mapping[str, Any]
    is_sealed: bool = False
    is_broken: bool = False

    @property
    def is_last(self) -> bool:
        return self.attempt >= self.max_attempts


class Attempt(Protocol):
    """What must be known of an attempt to write down how it ended."""

    @property
    def id(self) -> UUID: ...

    @property
    def lease_no(self) -> int: ...

    @property
    def attempt(self) -> int: ...

    @property
    def is_last(self) -> bool: ...

    @property
    def retry(self) -> Mapping[str, float]: ...

    @property
    def created_at(self) -> datetime: ...


class Verb(StrEnum):
    """What the settling statement does. The first three are final."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRY = "retry"
    SNOOZE = "snooze"
    RELEASE = "release"
    LOST = "lost"


class Settlement(NamedTuple):
    """`error` is one element of the job's `errors`. `unmark`: marks of once() go, since the effect
    did not happen or the job is over. `is_sealed`: the result is to be sealed at rest."""

    id: UUID
    lease_no: int
    verb: Verb
    delay_s: float = 0.0
    result: Any = None
    error: Mapping[str, Any] | None = None
    unmark: bool = False
    is_sealed: bool = False


class Status(StrEnum):
    SETTLED = "settled"
    DUPLICATE = "duplicate"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Raised:
    """An attempt that ended in an exception. `type` is what `errors[-1].type` says."""

    type: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Stopped by the worker before its end (a drain): goes back, its attempt unspent."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The lease is gone; whatever happened, nobody will believe it."""


Ending = handler.Outcome | Raised | Interrupted


class Ended(NamedTuple):
    """How it ended, when, and after how long. `is_marked`: once() may have left a mark."""

    ending: Ending
    at: datetime
    duration_s: float
    is_marked: bool = False


def settlement(
    job: Attempt, ended: Ended, *, uniform: backoff.Uniform = random.uniform
) -> Settlement:
    """What is written down for an attempt that ended like this."""
    match ended.ending:
        case handler.Completed(result):
            return Settlement(
                id=job.id,
                lease_no=job.lease_no,
                verb=Verb.COMPLETED,
                result=result,
                unmark=_may_be_marked(job, ended),
            )
        case handler.Snooze(delay_s):
            return Settlement(
                id=job.id,
                lease_no=job.lease_no,
                verb=Verb.SNOOZE,
                delay_s=_bounded(delay_s),
                unmark=True,
            )
        case handler.Cancel(reason):
            return _final(job, ended, Verb.CANCELLED, Raised("cancelled", reason, False))
        case handler.Discard(reason):
            return _final(job, ended, Verb.FAILED, Raised("discarded", reason, False))
        case handler.Retry(delay_s, error):
            return _again(job, ended, Raised("retry", error, True), delay_s, True, uniform)
        case Raised() as raised if raised.retryable:
            return _again(job, ended, raised, None, False, uniform)
        case Raised() as raised:
            return _final(job, ended, Verb.FAILED, raised)
        case Interrupted():
            return Settlement(id=job.id, lease_no=job.lease_no, verb=Verb.RELEASE)
        case _:
            assert_never(ended.ending)


def without_handler(job: Claimed, now: datetime, *, lacking_s: float) -> Ending:
    """Nobody here has run this kind for `lacking_s`: wait for who does, a day at most."""
    if (
        now - job.created_at > NO_HANDLER_FOR
        and job.snoozes >= NO_HANDLER_WAITS
        and lacking_s >= LACKING_FOR_S
    ):
        return Raised("no_handler", f"no worker has a handler for {job.kind}", False)
    first_s, longest_s = NO_HANDLER_S
    return handler.Snooze(min(longest_s, first_s * 2.0 ** min(job.snoozes, 16)))


def _again(
    job: Attempt,
    ended: Ended,
    raised: Raised,
    delay_s: float | None,
    unmark: bool,
    uniform: backoff.Uniform,
) -> Settlement:
    if job.is_last or _is_too_old(job, ended.at):
        return _final(job, ended, Verb.FAILED, raised)
    if delay_s is None:
        policy = job.retry
        delay_s = backoff.delay_s(
            job.attempt,
            base_s=policy["base_s"],
            max_s=policy["max_s"],
            factor=policy["factor"],
            jitter=policy["jitter"],
            uniform=uniform,
        )
    return Settlement(
        id=job.id,
        lease_no=job.lease_no,
        verb=Verb.RETRY,
        delay_s=_bounded(delay_s),
        error=error_of(job.attempt, ended, raised),
        unmark=unmark,
    )


def _is_too_old(job: Attempt, now: datetime) -> bool:
    for_s = job.retry.get("for_s")
    return for_s is not None and now - job.created_at > timedelta(seconds=for_s)


def _final(job: Attempt, ended: Ended, verb: Verb, raised: Raised) -> Settlement:
    return Settlement(
        id=job.id,
        lease_no=job.lease_no,
        verb=verb,
        error=error_of(job.attempt, ended, raised),
        unmark=_may_be_marked(job, ended),
    )


def _bounded(delay_s: float) -> float:
    return min(max(0.0, delay_s), MAX_DELAY_S)


def _may_be_marked(job: Attempt, ended: Ended) -> bool:
    return ended.is_marked or job.lease_no > 1


def error_of(attempt: int, ended: Ended, raised: Raised) -> dict[str, Any]:
    return {
        "attempt": attempt,
        "at": rfc3339(ended.at),
        "type": raised.type,
        "message": raised.message.replace("\x00", "")[:MAX_MESSAGE],
        "retryable": raised.retryable,
        "duration_ms": round(ended.duration_s * 1000),
    }
