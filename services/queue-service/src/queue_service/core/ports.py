"""What the use cases need of the stores, and what the stores tell them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from queue_service.core.jobs import NewJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as its readers see it, live or in history. Sealed args are a text."""

    id: UUID
    queue: str
    kind: str
    shop: str | None
    state: str
    priority: int
    attempt: int
    max_attempts: int
    args: Mapping[str, Any] | str
    run_at: datetime
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    batch_id: UUID | None = None
    tags: Sequence[str] = ()
    errors: Sequence[Mapping[str, Any]] = ()
    progress: Any = None
    result: Any = None
    worker: UUID | None = None

    @property
    def is_sealed(self) -> bool:
        return isinstance(self.args, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """None matches all. `since` is inclusive, `until` is not; both look at `created_at`."""

    queue: str | None = None
    state: str | None = None
    shop: str | None = None
    kind: str | None = None
    tag: str | None = None
    batch_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page goes on that is read newest first."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class Page:
    """`next` None: there is no more. A page may be short, even empty, and yet have a next one."""

    jobs: Sequence[Job]
    next: Position | None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A job that was promised and turned out wrong: it ends in the state `rejected`."""

    job: NewJob
    code: str
    message: str


class JobStore(Protocol):
    async def get(self, job_id: UUID) -> Job | None: ...

    async def many(self, job_ids: Sequence[UUID]) -> Mapping[UUID, Job]: ...

    async def newest(self, wanted: JobFilter, *, after: Position | None, limit: int) -> Page: ...

    async def cancel(self, job_id: UUID) -> str | None:
        """The state it is in now: `cancelled`, or `running` and told. None: it is not live."""
        ...

    async def forgotten(self, shops: Collection[str]) -> Mapping[str, datetime]:
        """Of those that were to be forgotten: as of when, the last time."""
        ...

    async def reject(self, rejections: Sequence[Rejection]) -> None:
        """Each is readable under its id from now on, unless the id stands for a job already."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue and how deep it is. `depth`: live state → jobs in it, states without any left out.

    `retention`: for how many days what completed and failed jobs were is kept, if not as long as
    history. `oldest_ready_age_s` None: no job waits for a worker.
    """

    name: str
    served_by: str
    concurrency: int
    global_limit: int | None
    per_shop_limit: int | None
    max_attempts: int
    timeout_s: float
    max_age_s: float | None
    retry: Mapping[str, float]
    weights: Mapping[str, float]
    paused: bool
    sealed: bool = False
    drop_on_finish: bool = False
    retention: Mapping[str, int | None] = field(default_factory=dict)
    depth: Mapping[str, int] = field(default_factory=dict)
    depth_is_estimate: bool = False
    oldest_ready_age_s: float | None = None


class QueueNames(Protocol):
    async def has(self, name: str) -> bool: ...


class QueueStore(QueueNames, Protocol):
    async def get(self, name: str) -> Queue | None: ...

    async def page(self, *, after: str, limit: int) -> Sequence[Queue]:
        """By name, from behind `after`."""
        ...

    async def create(self, queue: Queue) -> bool:
        """False when it is there already."""
        ...

    async def change(self, name: str, change: Mapping[str, Any]) -> bool:
        """Set what is named; lanes follow, and what runs is counted anew. False: no such queue."""
        ...

    async def delete(self, name: str) -> bool | None:
        """None: no such queue. False: it holds jobs."""
        ...


class BatchChores(Protocol):
    """The background of batches, in bounded steps."""

    async def fold(self, *, limit: int) -> int:
        """Take what has ended into the counters; how many notes there were."""
        ...

    async def ended(self, *, limit: int) -> Sequence[UUID]:
        """Closed batches of which every job has ended."""
        ...

    async def finish(self, batch_id: UUID) -> bool:
        """One transaction: finished, the event, the job that follows. False: not to be finished."""
        ...

    async def held(self, *, limit: int) -> Sequence[UUID]:
        """Batches that go on and have jobs put aside."""
        ...

    async def free(self, batch_id: UUID, *, limit: int) -> int: ...

    async def stopped(self, *, limit: int) -> Sequence[UUID]:
        """Jobs of cancelled batches."""
        ...

    async def cancel(self, job_ids: Sequence[UUID]) -> None: ...


@dataclass(frozen=True, slots=True)
class Depth:
    """How many jobs of a queue are in a live state; the age is told of `ready` alone."""

    queue: str
    state: str
    jobs: int
    oldest_ready_age_s: float | None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the oldest snapshot: a `session`, a `prepared` transaction or a `slot` (of
    replication), by its `key`. `transactions` have begun since; `age_s` None: nobody says since
    when."""

    holder: str
    key: str
    transactions: int
    age_s: float | None

    @property
    def name(self) -> tuple[str, str]:
        return self.holder, self.key


class Depths(Protocol):
    async def depths(self) -> Sequence[Depth]: ...


class Seeds(Protocol):
    async def create(self, queue: Queue) -> bool: ...
