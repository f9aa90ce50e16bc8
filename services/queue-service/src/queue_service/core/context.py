"""What a handler may use while it runs, in the built-in worker.

One is made for every job and most jobs ask for little of it: so it holds what it was given, and
makes the rest when it is asked for.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Unpack
from uuid import UUID

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from mainstay import handler
from mainstay.children import ChildOptions, NewJob, require_names
from mainstay.limits import Observed
from mainstay.sizes import MAX_PROGRESS_BYTES, size_of
from queue_service.core.attempts import Claimed

PROGRESS_EVERY_S = 1.0
MARK_TRIES = 3


class LeaseLost(Exception):
    """The job has been given to somebody else, or ended; nothing we say counts any more."""


class Leases(Protocol):
    """What a running attempt writes, always under its lease."""

    async def mark(self, job_id: UUID, lease_no: int, name: str) -> int | None:
        """Leave the mark if there is none; the lease that left the one there is. None: lost."""
        ...

    async def progress(self, job_id: UUID, lease_no: int, value: Mapping[str, Any]) -> None: ...


class Lookups(Protocol):
    """What a running attempt asks."""

    async def checkpoint(self, job_id: UUID) -> Any:
        """The last progress of the job."""
        ...

    async def waiting(self, queue: str, shop: str, *, limit: int) -> int:
        """Ready jobs of the lane, counted up to the limit."""
        ...


class Offspring(Protocol):
    async def put(self, parent: handler.JobInfo, jobs: Sequence[NewJob]) -> list[UUID]:
        """All or none; raises mainstay's Refused, and Unavailable."""
        ...


class Limiter(Protocol):
    async def reserve(
        self,
        policies: Sequence[str],
        *,
        subject: Mapping[str, str | None],
        cost: int,
        max_wait_ms: int,
    ) -> handler.Reservation:
        """Raises mainstay's Unavailable when no limiter answers."""
        ...

    async def refund(self, token: str, cost: int | None) -> int:
        """Raises mainstay's Unavailable and Permanent."""
        ...

    async def observe(self, policy: str, shop: str, told: Observed) -> None:
        """Raises mainstay's Unavailable and Permanent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all jobs of a worker share. `http` and `outside` are aiohttp sessions."""

    http: Any
    outside: Any
    environ: Mapping[str, str]
    leases: Leases
    lookups: Lookups
    offspring: Offspring
    limiter: Limiter
    clock: Clock
    log: logging.Logger


class JobContext:
    """A `mainstay.handler.Context`. Without a handler (`of` None) nobody uses it."""

    __slots__ = (
        "_around", "_cancelled", "_claimed", "_delivery", "_is_mine", "_job", "_log", "_made",
        "_names", "_progress", "_progress_at", "deadline",
    )  # fmt: skip

    def __init__(
        self,
        job: Claimed,
        of: handler.Handler[Any] | None,
        around: Surroundings,
        is_mine: "IsMine",
    ) -> None:
        timeout_s, self._delivery = 0.0, handler.Delivery.AT_LEAST_ONCE
        if of is not None:
            timeout_s, self._delivery = of.timeout_s, of.delivery
        self.deadline = time.monotonic() + (job.timeout_s or timeout_s)
        self._claimed = job
        self._around = around
        self._is_mine = is_mine
        self._job: handler.JobInfo | None = None
        self._log: logging.LoggerAdapter[logging.Logger] | None = None
        self._cancelled: asyncio.Event | None = None
        self._names: set[str] | None = None
        self._made: set[str] | None = None
        self._progress: Mapping[str, Any] | None = None
        self._progress_at = 0.0

    @property
    def job(self) -> handler.JobInfo:
        if self._job is None:
            self._job = _info(self._claimed)
        return self._job

    @property
    def http(self) -> Any:
        return self._around.http

    @property
    def outside(self) -> Any:
        return self._around.outside

    @property
    def environ(self) -> Mapping[str, str]:
        return self._around.environ

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        if self._log is None:
            ids = {"job_id": str(self._claimed.id), "kind": self._claimed.kind}
            self._log = logging.LoggerAdapter(self._around.log, ids)
        return self._log

    @property
    def cancelled(self) -> asyncio.Event:
        if self._cancelled is None:
            self._cancelled = asyncio.Event()
        return self._cancelled

    @property
    def is_marked(self) -> bool:
        return self._names is not None

    def remaining_s(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def now(self) -> datetime:
        return self._around.clock.now()

    async def once(self, name: str) -> bool:
        names = self._names = self._names or set()
        if name in names:
            raise ValueError(f"once({name!r}) twice in one attempt: give each effect its name")
        names.add(name)
        self._require_lease()
        left_by = await self._mark(name)
        if left_by is None:
            raise LeaseLost
        self._require_lease()  # the answer may have been long on its way
        if left_by == self._claimed.lease_no:
            return True
        if self._delivery is handler.Delivery.AT_MOST_ONCE:
            raise handler.Ambiguous(f"an earlier attempt may have done {name!r}")
        return False

    def _require_lease(self) -> None:
        if not self._is_mine(self._claimed):
            raise LeaseLost

    async def progress(self, value: Mapping[str, Any]) -> None:
        size_of(value, MAX_PROGRESS_BYTES)
        self._progress = dict(value)
        if time.monotonic() - self._progress_at >= PROGRESS_EVERY_S:
            await self.flush_progress()

    async def flush_progress(self) -> None:
        """Write what the throttle held back."""
        value, self._progress = self._progress, None
        if value is not None:
            self._progress_at = time.monotonic()
            await self._around.leases.progress(self._claimed.id, self._claimed.lease_no, value)

    async def checkpoint(self) -> dict[str, Any] | None:
        left = await self._around.lookups.checkpoint(self._claimed.id)
        return left if isinstance(left, dict) else None

    async def enqueue(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        name: str,
        **options: Unpack[ChildOptions],
    ) -> UUID:
        made = self._made = self._made or set()
        job = NewJob(name=name, kind=kind, args=args or {}, **options)
        require_names([job], made)
        made.add(name)
        return (await self.enqueue_many([job]))[0]

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[UUID]:
        require_names(jobs)
        self._require_lease()
        return await self._around.offspring.put(self.job, jobs) if jobs else []

    async def waiting(self, queue: str, *, shop: str | None = None, limit: int = 10_000) -> int:
        whose = shop or self._claimed.shop or ""
        return await self._around.lookups.waiting(queue, whose, limit=limit)

    async def reserve(
        self,
        policy: str | Sequence[str],
        *,
        sender: str | None = None,
        shop: str | None = None,
        user: str | None = None,
        cost: int = 1,
        max_wait_ms: int = 0,
    ) -> handler.Reservation:
        return await self._around.limiter.reserve(
            [policy] if isinstance(policy, str) else policy,
            subject={"sender": sender, "shop": shop or self._claimed.shop, "user": user},
            cost=cost,
            max_wait_ms=max_wait_ms,
        )

    async def refund(self, slot: handler.Reservation, cost: int | None = None) -> int:
        if slot.token is None:
            return 0
        try:
            return await self._around.limiter.refund(slot.token, cost)
        except handler.HandlerError as error:
            self.log.warning("what was reserved is not given back: %s", error.type)
            return 0

    async def observe(
        self, policy: str, *, shop: str | None = None, **told: Unpack[Observed]
    ) -> None:
        whose = shop or self._claimed.shop
        if whose is None:
            raise ValueError("whose bucket? give a shop")
        try:
            await self._around.limiter.observe(policy, whose, told)
        except handler.HandlerError as error:
            self.log.warning("what was observed of %s is not told: %s", policy, error.type)

    async def _mark(self, name: str) -> int | None:
        """A mark of our own lease may be left again, so a lost answer is asked for again."""
        for tries_left in reversed(range(MARK_TRIES)):
            try:
                return await self._around.leases.mark(
                    self._claimed.id, self._claimed.lease_no, name
                )
            except errors.Unavailable:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")


class IsMine(Protocol):
    """May this lease still be believed to be ours, by our own clock?"""

    def __call__(self, job: Claimed) -> bool: ...


def _info(job: Claimed) -> handler.JobInfo:
    return handler.JobInfo(
        id=job.id,
        kind=job.kind,
        queue=job.queue,
        shop=job.shop,
        attempt=job.attempt,
        max_attempts=job.max_attempts,
        batch_id=job.batch_id,
        created_at=job.created_at,
        tags=tuple(job.tags),
    )
