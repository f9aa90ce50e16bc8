"""How idle workers hear of fresh jobs. Whatever they are told is a hint: what they run is what
Postgres lets them claim, and without any hint they look once a second.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from queue_service.core.attempts import Claimed
from queue_service.core.jobs import Intake, NewJob, Stored, Verdict

READY = "ready"


class Backend(StrEnum):
    """What tells workers first."""

    POSTGRES = "postgres"
    REDIS = "redis"


@dataclass(frozen=True, slots=True)
class Offer:
    """Jobs that were ready a moment ago; each is offered to one worker."""

    queue: str
    job_ids: Sequence[UUID]


class Announcer(Protocol):
    def announce(self, queue: str, job_ids: Sequence[UUID]) -> None:
        """Jobs are ready, and committed. Returns at once, and nothing it does can fail."""
        ...


class Offers(Protocol):
    """The worker's side of an Announcer. All of it raises Missed while there is nothing to wait
    for, and then the caller looks for itself."""

    async def take(self, rooms: Mapping[str, int], *, wait_s: float) -> Offer | None:
        """The next offer of one of these queues, of no more jobs than there is room for."""
        ...

    async def give_back(self, offer: Offer) -> None:
        """Others may have room."""
        ...

    async def forget(self, queue: str) -> None:
        """What is offered there is worth nothing."""
        ...

    async def stir(self) -> None:
        """Whoever waits in `take` comes back with nothing, to wait for other queues."""
        ...


class Missed(Exception):
    """There is no telling now: go on without."""


class NamedClaims(Protocol):
    async def claim_named(self, queue: str, worker: UUID, job_ids: Sequence[UUID]) -> list[Claimed]:
        """Those of them that can be claimed: ready, of this queue, in a lane that is open."""
        ...


@dataclass(slots=True)
class Switch:
    """What tells workers now. `on_switch(to)` at each change."""

    on_switch: Callable[[Backend], None]
    backend: Backend = Backend.POSTGRES

    def saw(self, redis_answers: bool) -> None:
        backend = Backend.REDIS if redis_answers else Backend.POSTGRES
        if backend is not self.backend:
            self.backend = backend
            self.on_switch(backend)


class Announced:
    """An Intake that tells of what it has stored."""

    def __init__(self, intake: Intake, announcers: Sequence[Announcer]) -> None:
        self._intake = intake
        self._announcers = announcers

    async def put(self, jobs: Sequence[NewJob]) -> Sequence[Stored]:
        stored = await self._intake.put(jobs)
        self._tell(jobs, stored)
        return stored

    async def put_all(self, jobs: Sequence[NewJob]) -> Sequence[Stored]:
        stored = await self._intake.put_all(jobs)
        if all(one.is_good for one in stored):
            self._tell(jobs, stored)
        return stored

    def _tell(self, jobs: Sequence[NewJob], stored: Sequence[Stored]) -> None:
        ready: dict[str, list[UUID]] = {}
        for job, one in zip(jobs, stored, strict=True):
            if one.verdict is Verdict.CREATED and one.state == READY and not one.is_handed:
                ready.setdefault(job.queue, []).append(one.id)
        for queue, job_ids in ready.items():
            for announcer in self._announcers:
                announcer.announce(queue, job_ids)
