"""What a deployment answers, as far as this client reads it; unknown members are ignored."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")


class Answer(BaseModel):
    """`road`, `backend` and `degraded` are the headers that came with the answer."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    road: str | None = None
    backend: str | None = None
    degraded: str | None = None


class JobError(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    attempt: int
    at: datetime
    type: str
    message: str
    retryable: bool
    duration_ms: int | None = None


class Job(Answer):
    """A job. While `state` is "accepted" it is durable on another road and only `id` is known.

    `replayed` tells that this id or key had been sent before.
    """

    id: UUID
    state: str
    queue: str | None = None
    kind: str | None = None
    shop: str | None = None
    priority: int | None = None
    attempt: int = 0
    max_attempts: int | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    result: Any = None
    progress: Any = None
    run_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    batch_id: UUID | None = None
    tags: list[str] = Field(default_factory=list)
    errors: list[JobError] = Field(default_factory=list)
    worker: str | None = None
    replayed: bool = False


class Page(Answer, Generic[T]):
    """`next_cursor` is None on the last page."""

    items: list[T]
    next_cursor: str | None = None


class EnqueueResult(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: UUID | None
    status: Literal["created", "existing", "accepted", "rejected"]
    problem: dict[str, Any] | None = None


class EnqueueResults(Answer):
    """In the order of the jobs that were sent."""

    results: list[EnqueueResult]


class Batch(Answer):
    id: UUID
    name: str
    state: str
    total: int = 0
    shop: str | None = None
    queue: str | None = None
    kind: str | None = None
    held: int = 0
    scheduled: int = 0
    ready: int = 0
    running: int = 0
    retrying: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected_rows: int = 0
    rate: float | None = None
    eta_s: float | None = None
    created_at: datetime | None = None
    closed_at: datetime | None = None
    finished_at: datetime | None = None
    on_complete_id: UUID | None = None


class Matched(Answer):
    matched: int


class Queue(Answer):
    """`depth` counts live jobs by state."""

    name: str
    served_by: str
    paused: bool
    concurrency: int
    global_limit: int | None = None
    per_shop_limit: int | None = None
    max_age_s: float | None = None
    max_attempts: int
    timeout_s: float
    retry: dict[str, float] = Field(default_factory=dict)
    weights: dict[str, float] = Field(default_factory=dict)
    sealed: bool = False
    drop_on_finish: bool = False
    depth: dict[str, int] = Field(default_factory=dict)
    oldest_ready_age_s: float | None = None


class Schedule(Answer):
    name: str
    cron: str
    timezone: str
    job: dict[str, Any]
    missed: str
    overlap: str
    enabled: bool
    next_fire_at: datetime | None = None
    last_fire_at: datetime | None = None
    last_job_id: UUID | None = None


class PushHandler(Answer):
    """`secret` is told once, in the answer to the call that made it."""

    kind: str
    url: str
    timeout_s: float
    max_in_flight: int
    secret: str | None = None
    disabled_at: datetime | None = None


class RejectedRow(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    line: int
    detail: str


class Uploaded(Answer):
    """`accepted` rows are new, `duplicates` had been sent before; together they are jobs."""

    accepted: int
    duplicates: int
    rejected: list[RejectedRow]
    rows: int


class Lease(BaseModel):
    """`token` stands for this lease of this job; after `until` it is worth nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    token: str
    until: datetime


class LeasedJob(Job):
    """A job in your hands. What its methods return goes to `Client.settle`. `snoozes`: how often it
    was put off."""

    lease: Lease
    snoozes: int = 0

    @property
    def held(self) -> dict[str, Any]:
        return {"id": self.id, "token": self.lease.token}

    def completed(self, result: Any = None) -> dict[str, Any]:
        return {**self.held, "outcome": "completed", "result": result}

    def failed(
        self,
        type: str,  # noqa: A002 - the name of the field
        message: str = "",
        *,
        retryable: bool = True,
        delay_s: float | None = None,
        clear_marks: bool = False,
    ) -> dict[str, Any]:
        """Tried again while attempts are left, after `delay_s` or the queue's back-off.
        `clear_marks`: no effect that was marked has happened."""
        error = {"type": type, "message": message, "retryable": retryable}
        said = {**self.held, "outcome": "failed", "error": error, "clear_marks": clear_marks}
        return said if delay_s is None else {**said, "delay_s": delay_s}

    def snooze(self, delay_s: float) -> dict[str, Any]:
        """Comes back later, the attempt unspent."""
        return {**self.held, "outcome": "snooze", "delay_s": delay_s}

    def cancel(self, reason: str) -> dict[str, Any]:
        """No longer wanted: ends cancelled."""
        return {**self.held, "outcome": "cancel", "error": {"message": reason}}

    def discard(self, type: str, reason: str) -> dict[str, Any]:  # noqa: A002
        """No repeat can help: ends failed at once."""
        return {**self.held, "outcome": "discard", "error": {"type": type, "message": reason}}


class LeasedJobs(Answer):
    jobs: list[LeasedJob]


class Settled(BaseModel):
    """`lost`: the lease had run out or the job is somebody else's; nothing was changed."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str | None
    status: Literal["settled", "duplicate", "lost", "unknown"]
    problem: dict[str, Any] | None = None


class Settlements(Answer):
    """In the order of the outcomes. `jobs` are the next ones, when they were asked for."""

    results: list[Settled]
    jobs: list[LeasedJob] = Field(default_factory=list)


class Heartbeat(Answer):
    """Ids: stop working on the `lost`; `cancel` are yours still, but wanted no more."""

    lost: list[str]
    cancel: list[str]


class Marked(Answer):
    first: bool
