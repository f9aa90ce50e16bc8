"""Pull workers: jobs leased over HTTP, and how they ended. Owner: queue-service.

Items of a list are judged one by one, so that a bad one never fails the call.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from contracts.jobs import YEAR_S, Job
from contracts.wire import Answer, Document, Moment, Name, Said

MAX_LEASED = 500
MAX_ITEMS = 1000
MAX_WAIT_MS = 30_000

Token = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]
LeaseS = Annotated[float, Field(ge=1, le=3600)]


class LeaseAsk(Said):
    """`POST /v1/queues/{q}:lease`. A call repeated with its `request_id` within 30 s gets the same
    jobs; `worker` is a name for people."""

    max: int = Field(10, ge=1, le=MAX_LEASED)
    wait_ms: int = Field(0, ge=0, le=MAX_WAIT_MS)
    lease_s: LeaseS = 60.0
    worker: Word | None = None
    request_id: Word | None = None


class LeaseNext(LeaseAsk):
    """To lease in the same call that settles."""

    queue: Name


class Lease(Answer):
    """`token` stands for this lease of this job alone; after `until` it is worth nothing."""

    token: str
    until: Moment


class LeasedJob(Job):
    """`snoozes`: how often it was put off."""

    lease: Lease
    snoozes: int


class LeasedJobs(Answer):
    jobs: list[LeasedJob]


class Outcome(StrEnum):
    COMPLETED = "completed"
    FAILED = "failed"
    SNOOZE = "snooze"
    CANCEL = "cancel"
    DISCARD = "discard"


class AttemptError(Said):
    """Why an attempt failed. Not `retryable`: no repeat can help."""

    type: Word = "failed"
    message: str = ""
    retryable: bool = True


class LeaseHeld(Said):
    id: UUID
    token: Token


class LeaseOutcome(LeaseHeld):
    """How an attempt ended. `delay_s`: a snoozed job comes back after it (else at once), a failed
    one too (else its back-off decides). `clear_marks` of a failed one: no marked effect happened.
    """

    outcome: Outcome
    result: Any = None
    error: AttemptError | None = None
    delay_s: float | None = Field(None, ge=0, le=YEAR_S)
    progress: Any = None
    clear_marks: bool = False


class LeaseBeat(LeaseHeld):
    progress: Any = None


class LeasesSettle(Said):
    """`POST /v1/leases:settle`. Each outcome is a LeaseOutcome."""

    outcomes: list[Any] = Field(default_factory=list, max_length=MAX_ITEMS)
    lease: LeaseNext | None = None


class LeasesRelease(Said):
    """`POST /v1/leases:release`. Each is a LeaseHeld."""

    leases: list[Any] = Field(max_length=MAX_ITEMS)


class LeasesHeartbeat(Said):
    """`POST /v1/leases:heartbeat`. Each is a LeaseBeat; without `extend_s` each is extended by its
    own `lease_s`, from now."""

    leases: list[Any] = Field(max_length=MAX_ITEMS)
    extend_s: LeaseS | None = None


class LeaseMark(LeaseHeld):
    """`POST /v1/leases:mark`: leave a durable mark before an outside effect."""

    name: Word


class LeaseSettled(Answer):
    """`lost`: the lease had run out, or the job is somebody else's; nothing was changed. `unknown`:
    no token of ours, or no outcome, as `problem` says."""

    id: str | None
    status: Literal["settled", "duplicate", "lost", "unknown"]
    problem: Document | None = None


class LeasesSettled(Answer):
    """In the order asked. `jobs` when more were asked for."""

    results: list[LeaseSettled]
    jobs: list[LeasedJob] | None = None


class LeasesBeaten(Answer):
    """Ids: stop working on the `lost`; `cancel` are still leased, but wanted no more."""

    lost: list[str]
    cancel: list[str]


class LeaseMarked(Answer):
    """`first`: no earlier lease of the job has left this mark."""

    first: bool
