"""Run one claimed job with its handler: parse, bound the time, name the ending."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol
from uuid import UUID

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from mainstay import handler
from queue_service.core.attempts import Claimed, Ended, Ending, Interrupted, Raised, without_handler
from queue_service.core.stepping import resumed

PROGRESS_EVERY_S = 1.0
MARK_TRIES = 3


class LeaseLost(Exception):
    """The job has been given to somebody else, or ended; nothing we say counts any more."""


class Leases(Protocol):
    """What a running attempt asks of the store, always under its lease."""

    async def mark(self, job_id: UUID, lease_no: int, name: str) -> int | None:
        """Leave the mark if there is none; the lease that left the one there is. None: lost."""
        ...

    async def progress(self, job_id: UUID, lease_no: int, value: Mapping[str, Any]) -> None: ...


class Limiter(Protocol):
    async def reserve(
        self,
        policy: str,
        *,
        sender: str | None,
        shop: str | None,
        cost: int,
        max_wait_ms: int,
    ) -> handler.Reservation:
        """Raises mainstay's Unavailable when no limiter answers."""
        ...


class JobContext:
    """What a handler may use (`mainstay.handler.Context`)."""

    def __init__(
        self,
        job: Claimed,
        delivery: handler.Delivery,
        *,
        http: Any,
        environ: Mapping[str, str],
        leases: Leases,
        limiter: Limiter,
        timeout_s: float,
        is_mine: "IsMine",
        log: logging.Logger | logging.LoggerAdapter[Any],
    ) -> None:
        self.job = _info(job)
        self.http = http
        self.environ = environ
        self._cancelled: asyncio.Event | None = None
        self.log = log
        self._claimed = job
        self._delivery = delivery
        self._leases = leases
        self._limiter = limiter
        self._is_mine = is_mine
        self._ends_at = time.monotonic() + timeout_s
        self._names: set[str] = set()
        self._progress: Mapping[str, Any] | None = None
        self._progress_at = 0.0

    @property
    def cancelled(self) -> asyncio.Event:
        """Made when it is first asked for: most jobs never ask."""
        if self._cancelled is None:
            self._cancelled = asyncio.Event()
        return self._cancelled

    @property
    def is_marked(self) -> bool:
        return bool(self._names)

    def remaining_s(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    async def once(self, name: str) -> bool:
        if name in self._names:
            raise ValueError(f"once({name!r}) twice in one attempt: give each effect its name")
        self._names.add(name)
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
        self._progress = dict(value)
        if time.monotonic() - self._progress_at >= PROGRESS_EVERY_S:
            await self.flush_progress()

    async def flush_progress(self) -> None:
        """Write what the throttle held back."""
        value, self._progress = self._progress, None
        if value is not None:
            self._progress_at = time.monotonic()
            await self._leases.progress(self._claimed.id, self._claimed.lease_no, value)

    async def reserve(
        self,
        policy: str,
        *,
        sender: str | None = None,
        shop: str | None = None,
        cost: int = 1,
        max_wait_ms: int = 0,
    ) -> handler.Reservation:
        return await self._limiter.reserve(
            policy, sender=sender, shop=shop or self.job.shop, cost=cost, max_wait_ms=max_wait_ms
        )

    async def _mark(self, name: str) -> int | None:
        """A mark of our own lease may be left again, so a lost answer is asked for again."""
        for tries_left in reversed(range(MARK_TRIES)):
            try:
                return await self._leases.mark(self._claimed.id, self._claimed.lease_no, name)
            except errors.Unavailable:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")


class IsMine(Protocol):
    """May this lease still be believed to be ours, by our own clock?"""

    def __call__(self, job: Claimed) -> bool: ...


async def execute(
    of: handler.Handler[Any] | None, job: Claimed, ctx: JobContext, *, clock: Clock
) -> Ended:
    """Always an ending; raises LeaseLost, and CancelledError only when cancelled from outside."""
    started = time.monotonic()
    ending = without_handler(job, clock.now()) if of is None else await _attempt(of, job, ctx)
    return Ended(ending, clock.now(), time.monotonic() - started, ctx.is_marked)


async def _attempt(of: handler.Handler[Any], job: Claimed, ctx: JobContext) -> Ending:
    limit: asyncio.Timeout | None = None
    try:
        running = of.run(of.parse(job.args), ctx)
        try:
            waits_for = running.send(None)
        except StopIteration as done:
            outcome: handler.Outcome = done.value
        else:
            limit = asyncio.timeout(ctx.remaining_s())
            async with limit:
                outcome = await resumed(running, waits_for)
        await ctx.flush_progress()
        return outcome
    except LeaseLost:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return Interrupted()
        return Raised("cancelled", "the handler cancelled itself", True)
    except handler.HandlerError as error:
        final = isinstance(error, handler.Ambiguous | handler.Permanent)
        return Raised(error.type, str(error), retryable=not final)
    except errors.Unavailable as error:
        return Raised("unavailable", error.detail, retryable=True)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a handler raises is an ending
        if isinstance(error, TimeoutError) and limit is not None and limit.expired():
            within = f"{job.timeout_s or of.timeout_s:g} s"
            return Raised("timeout", f"not done within {within}", retryable=True)
        return Raised(type(error).__name__, str(error), retryable=True)


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
