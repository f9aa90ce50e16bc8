"""What workers need of the store, and what they are told by it. Every write is under a lease."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from queue_service.core.attempts import Claimed, Settlement, Status

# A worker that has not beaten for so long, by the database's clock, is dead: its jobs go back.
DEAD_AFTER_S = 15.0
BEAT_EVERY_S = 2.0
# By its own clock a worker stops believing in its leases well before anybody else does.
LEASE_S = 10.0


@dataclass(frozen=True, slots=True)
class WorkerQueue:
    """A queue that built-in workers serve: `concurrency` jobs at a time in each process."""

    name: str
    concurrency: int
    max_age_s: float | None


@dataclass(frozen=True, slots=True)
class Claim:
    """Up to `want` jobs of the queue for a worker, from at most so many `lanes`."""

    queue: str
    worker: UUID
    want: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Orphan:
    """A running job whose worker is gone. `kills`: how often that had happened before."""

    id: UUID
    lease_no: int
    lane: int
    attempt: int
    max_attempts: int
    kills: int


@dataclass(frozen=True, slots=True)
class Held:
    """A job that the database thinks a worker has. `is_handed`: it was given without a claim."""

    id: UUID
    lease_no: int
    cancel_requested: bool
    is_handed: bool = False


class Settlements(Protocol):
    async def settle(self, settlements: Sequence[Settlement]) -> list[Status]:
        """A status for each, in order, after the commit."""
        ...

    async def wake(self, lanes: Sequence[int]) -> bool:
        """True if one of them had ready jobs after all."""
        ...


class Claims(Settlements, Protocol):
    async def worker_queues(self) -> list[WorkerQueue]: ...

    async def settle_and_claim(
        self, settlements: Sequence[Settlement], claim: Claim
    ) -> tuple[list[Status], list[Claimed], list[int]]:
        """One statement: (a status for each, jobs leased to the worker, lanes that ran dry and
        must be woken)."""
        ...


class Sleepers(Protocol):
    async def wake_sleepers(self, *, after: int, limit: int) -> int:
        """Looks through lanes that sleep, by id, from behind `after`; the last of them, 0 at the
        end."""
        ...


class Stages(Protocol):
    async def stage(self, limit: int) -> int:
        """How many due jobs became ready."""
        ...


class Rescues(Settlements, Protocol):
    async def bury(self, *, silent_s: float) -> int:
        """Forget workers that have been silent for so long. How many there were."""
        ...

    async def orphans(self, limit: int) -> list[Orphan]: ...


class Days(Protocol):
    """The days of history, and what is forgotten with them."""

    async def keep_day(self, parent: str, *, days_ahead: int) -> bool:
        """True if it was made now. Unavailable when a reader is in the way: try again."""
        ...

    async def drop_days(self, parent: str, *, older_than_d: int) -> int: ...

    async def forget_keys(self, *, older_than_d: int, limit: int) -> int: ...

    async def forget_leavings(self, *, older_than_d: int, limit: int) -> int:
        """Ids of merged jobs, keys of windows that are over, sweeps that are done."""
        ...

    async def forget_history(self, limit: int) -> bool:
        """What the next jobs were of queues that keep it for less than history; True if there may
        be more."""
        ...

    async def overflowing(self) -> int:
        """Rows for which no day was there."""
        ...
