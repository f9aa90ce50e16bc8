"""Jobs, queues and batches as they cross the wire. Owner: queue-service.

The gateway judges a job by these models before it answers 202, so both sides refuse the same.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    field_validator,
    model_serializer,
    model_validator,
)

from contracts.wire import Answer, Document, Limit, Moment, Name, Query, Said, Shop

YEAR_S = 366 * 86400
MAX_BATCH = 1000
MAX_ARGS_BYTES = 256 * 1024

Kind = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\s]+$")]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]
# `args` is all of them, `args.<member>` one.
UniqueField = Annotated[
    str, StringConstraints(max_length=80, pattern=r"^(shop|kind|queue|args(\..+)?)$")
]


class JobState(StrEnum):
    HELD = "held"
    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


LIVE_STATES = (
    JobState.HELD,
    JobState.SCHEDULED,
    JobState.READY,
    JobState.RUNNING,
    JobState.RETRYING,
)
FINAL_STATES = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.REJECTED)


class RetryPolicy(Said):
    """delay = r·min(max_s, base_s·factor^(failures−1)), r uniform in [1−jitter, 1]. A job that is
    older than `for_s` when an attempt fails is not tried again, whatever attempts are left."""

    base_s: float = Field(5.0, gt=0, le=86400)
    factor: float = Field(2.0, ge=1, le=10)
    max_s: float = Field(3600.0, gt=0, le=7 * 86400)
    jitter: float = Field(0.5, ge=0, le=1)
    for_s: float | None = Field(None, gt=0, le=YEAR_S)

    @model_serializer(mode="wrap")
    def _said(self, whole: SerializerFunctionWrapHandler) -> dict[str, float]:
        """Without `for_s` it is what it was before there was one."""
        return {name: value for name, value in whole(self).items() if value is not None}


class JobSpec(Said):
    """A job without kind and queue: what a batch's `defaults` may say."""

    args: Document = Field(default_factory=dict)
    shop: Shop | None = None
    run_at: Moment | None = None
    delay_s: float | None = Field(None, ge=0, le=YEAR_S)
    priority: int = Field(5, ge=0, le=9)
    max_attempts: int | None = Field(None, ge=1, le=100)
    timeout_s: float | None = Field(None, gt=0, le=86400)
    tags: list[Tag] = Field(default_factory=list, max_length=20)
    retry: RetryPolicy | None = None
    notify: bool = False

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.run_at is not None and self.delay_s is not None:
            raise ValueError("give run_at or delay_s, not both")
        return self


class Unique(Said):
    """One job at a time that is the same, always within its shop and kind: `by` what, or under a
    `key` of the caller's own. It holds while the job is live, in one of `states`; with `window_s`
    for so long after its creation instead, with both as long as either does."""

    by: list[UniqueField] | None = Field(None, min_length=1, max_length=20)
    key: str | None = Field(None, min_length=1, max_length=255)
    window_s: float | None = Field(None, gt=0, le=YEAR_S)
    states: list[Literal["held", "scheduled", "ready", "running", "retrying"]] | None = Field(
        None, min_length=1
    )
    on_conflict: Literal["ignore", "replace", "extend", "reject"] = "ignore"

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.by is None) == (self.key is None):
            raise ValueError("give by or key, one of them")
        return self


class JobCreate(JobSpec):
    """`POST /v1/jobs`."""

    kind: Kind
    queue: Name = "default"
    id: UUID | None = None
    unique: Unique | None = None

    @field_validator("id")
    @classmethod
    def _callers_id(cls, given: UUID | None) -> UUID | None:
        if given is not None and given.version not in (4, 7):
            raise ValueError("an own id must be a UUIDv4 or UUIDv7")
        return given


class JobsCreate(Said):
    """`POST /v1/jobs:batch`. With `atomic` one bad job refuses all."""

    jobs: list[Document] = Field(min_length=1, max_length=MAX_BATCH)
    atomic: bool = False


class JobError(Answer):
    attempt: int
    at: Moment
    type: str
    message: str
    retryable: bool
    duration_ms: int | None = None


class Job(Answer):
    id: UUID
    queue: str
    kind: str
    shop: str | None
    state: JobState
    priority: int
    attempt: int
    max_attempts: int
    args: Document
    result: Any = None
    progress: Any = None
    run_at: Moment | None = None
    created_at: Moment
    started_at: Moment | None = None
    finished_at: Moment | None = None
    batch_id: UUID | None = None
    tags: list[str] = Field(default_factory=list)
    errors: list[JobError] = Field(default_factory=list)
    worker: str | None = None


class Accepted(Answer):
    """202: durable on another road, a Job in a while."""

    id: UUID
    state: Literal["accepted"] = "accepted"


class BatchResult(Answer):
    """One line of the answer to `jobs:batch`; `problem` only when rejected."""

    id: UUID | None
    status: Literal["created", "existing", "accepted", "rejected"]
    problem: Document | None = None


class BatchResults(Answer):
    results: list[BatchResult]


class JobQuery(Query):
    queue: str | None = None
    state: JobState | None = None
    shop: Shop | None = None
    kind: str | None = None
    tag: str | None = None
    batch_id: UUID | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: Limit = 50
    cursor: str | None = None


class JobPage(Answer):
    items: list[Job]
    next_cursor: str | None = None


class JobFilter(Said):
    """Which jobs; all of what is said must be so. `since` is inclusive, `until` is not."""

    queue: str | None = None
    state: JobState | None = None
    shop: Shop | None = None
    kind: str | None = None
    tag: str | None = None
    batch_id: UUID | None = None
    since: Moment | None = None
    until: Moment | None = None

    @model_validator(mode="after")
    def _narrow(self) -> Self:
        if all(value is None for _name, value in self):
            raise ValueError("say which jobs: a filter of nothing would match all")
        return self


class JobsSelect(Said):
    """`POST /v1/jobs:cancel` and `:retry`. With `dry_run` nothing is done."""

    filter: JobFilter
    dry_run: bool = False


class Matched(Answer):
    """How many jobs match at this moment, of the newest million."""

    matched: int


class PageQuery(Query):
    """A list without filters."""

    limit: Limit = 50
    cursor: str | None = None


class ServedBy(StrEnum):
    WORKER = "worker"
    PULL = "pull"


class Retention(Said):
    """For how many days what jobs were is kept, no longer than the service keeps history: args,
    results, progress, errors and tags. Ids, states and times stay as long as history."""

    completed_d: int | None = Field(None, ge=1, le=3650)
    failed_d: int | None = Field(None, ge=1, le=3650)


class QueuePut(Said):
    """`PUT/PATCH /v1/queues/{q}`: what is absent stays as it is; null lifts a limit."""

    served_by: ServedBy | None = None
    max_age_s: float | None = Field(None, gt=0, le=YEAR_S)
    concurrency: int | None = Field(None, ge=1, le=10_000)
    global_limit: int | None = Field(None, ge=1, le=100_000)
    per_shop_limit: int | None = Field(None, ge=1, le=100_000)
    max_attempts: int | None = Field(None, ge=1, le=100)
    timeout_s: float | None = Field(None, gt=0, le=86400)
    retry: RetryPolicy | None = None
    weights: dict[Shop, Annotated[float, Field(gt=0, le=1000)]] | None = None
    sealed: bool | None = None
    drop_on_finish: bool | None = None
    retention: Retention | None = None


class Queue(Answer):
    name: str
    served_by: ServedBy
    max_age_s: float | None = None
    concurrency: int
    global_limit: int | None = None
    per_shop_limit: int | None = None
    max_attempts: int
    timeout_s: float
    retry: RetryPolicy
    paused: bool
    weights: dict[str, float] = Field(default_factory=dict)
    sealed: bool = False
    drop_on_finish: bool = False
    retention: Retention = Field(default_factory=Retention)
    depth: dict[str, int]
    depth_is_estimate: bool = False
    oldest_ready_age_s: float | None = None


class QueuePage(Answer):
    items: list[Queue]
    next_cursor: str | None = None


class BatchCreate(Said):
    """`POST /v1/batches`."""

    name: str = Field(min_length=1, max_length=200)
    kind: Kind
    queue: Name = "default"
    shop: Shop | None = None
    defaults: JobSpec = Field(default_factory=JobSpec)
    on_complete: JobCreate | None = None
    hold: bool = False
    id: UUID | None = None

    @field_validator("id")
    @classmethod
    def _callers_id(cls, given: UUID | None) -> UUID | None:
        if given is not None and given.version not in (4, 7):
            raise ValueError("an own id must be a UUIDv4 or UUIDv7")
        return given


class BatchItem(Said):
    """A JSON or NDJSON item."""

    args: Document = Field(default_factory=dict)
    shop: Shop | None = None
    priority: int | None = Field(None, ge=0, le=9)
    run_at: Moment | None = None
    tags: list[Tag] | None = Field(None, max_length=20)


class BatchState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class Batch(Answer):
    id: UUID
    name: str
    shop: str | None
    queue: str
    kind: str
    state: BatchState
    total: int
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
    created_at: Moment
    closed_at: Moment | None = None
    finished_at: Moment | None = None
    on_complete_id: UUID | None = None


class BatchPage(Answer):
    items: list[Batch]
    next_cursor: str | None = None


class RejectedRow(Answer):
    line: int
    detail: str


class ItemsAccepted(Answer):
    """The answer to an upload: `line` is the physical line on which the record starts."""

    accepted: int
    duplicates: int
    rejected: list[RejectedRow]
    rows: int


class ItemsQuery(Query):
    source: str = Field("upload", min_length=1, max_length=128)
    delimiter: str = Field(",", min_length=1, max_length=1)
    strict: bool = False
    offset: int = Field(0, ge=0)
