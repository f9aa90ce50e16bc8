"""The jobs this process holds: waiting for a free hand, running, or being settled."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

from chassis import logs
from chassis.kernel.clock import Clock
from mainstay.handler import Cancel, Handler
from queue_service import metrics
from queue_service.core import attempts
from queue_service.core.attempts import Claimed, Ended, Raised, Settlement, Status, Verb
from queue_service.core.execute import IsMine, JobContext, LeaseLost, execute
from queue_service.core.leasing import Claims
from queue_service.loops.heartbeat import Beat
from queue_service.loops.settler import Settler

log = logs.get(__name__)

# The answer to a claim takes at most 5 s: what is still unknown here then, never arrived.
STRANGER_AFTER_S = 6.0
EXPIRED = "expired"


class ContextOf(Protocol):
    def __call__(self, job: Claimed, of: Handler[Any] | None, is_mine: IsMine) -> JobContext: ...


@dataclass(slots=True)
class _Hold:
    """One job in our hands. `ctx` and `task` are there once it has started."""

    job: Claimed
    is_lost: bool = False
    is_cancelled: bool = False
    ctx: JobContext | None = None
    task: asyncio.Task[None] | None = None

    def lose(self) -> None:
        self.is_lost = True
        self.tell()

    def tell(self) -> None:
        if self.ctx is not None:
            self.ctx.cancelled.set()


class Attempts:
    """`is_believed`: may leases of this worker still be ours, by our own clock?"""

    def __init__(
        self,
        *,
        handlers: Mapping[str, Handler[Any]],
        settler: Settler,
        claims: Claims,
        context_of: ContextOf,
        is_believed: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._handlers = handlers
        self._settler = settler
        self._claims = claims
        self._context_of = context_of
        self._is_believed = is_believed
        self._clock = clock
        self._holds: dict[UUID, _Hold] = {}
        self._strangers: dict[tuple[UUID, int], float] = {}
        self._returning: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._holds)

    def take(self, job: Claimed) -> None:
        """A claim has answered: from now on the job is known to be in our hands."""
        self._holds[job.id] = _Hold(job)

    def start(
        self, job: Claimed, *, max_age_s: float | None, done: Callable[[float | None], None]
    ) -> bool:
        """Run it in a task; `done(seconds)` when it is settled. False: the lease may be gone, so
        nothing starts."""
        hold = self._holds[job.id]
        if not self._is_mine(job):
            self._holds.pop(job.id, None)
            return False
        name = f"job:{job.id}"
        hold.task = asyncio.create_task(self._run(hold, max_age_s, done), name=name)
        return True

    async def give_back(self, jobs: list[Claimed]) -> None:
        """What has not started goes back at once, its attempt unspent."""
        await asyncio.gather(*(self._release(job.id, job.lease_no) for job in jobs))
        await self._claims.wake([job.lane for job in jobs])
        for job in jobs:
            self._holds.pop(job.id, None)

    async def drain(self, *, grace_s: float, interrupt_s: float) -> None:
        """Let running jobs end; then interrupt them, and they go back too."""
        tasks = [hold.task for hold in self._holds.values() if hold.task is not None]
        if not tasks:
            return
        lanes = {hold.job.lane for hold in self._holds.values()}
        _done, late = await asyncio.wait(tasks, timeout=grace_s)
        for task in late:
            task.cancel()
        if late:
            log.warning("interrupted", jobs=len(late))
            await asyncio.wait(late, timeout=interrupt_s)
            await self._claims.wake(sorted(lanes))

    def on_beat(self, beat: Beat) -> None:
        """Pass on cancellations; notice what the database gave us and we never got."""
        now = time.monotonic()
        strangers: dict[tuple[UUID, int], float] = {}
        for held in beat.held:
            hold = self._holds.get(held.id)
            if hold is None or hold.job.lease_no != held.lease_no:
                key = (held.id, held.lease_no)
                strangers[key] = self._strangers.get(key, now)
            elif held.cancel_requested and not hold.is_cancelled:
                hold.is_cancelled = True
                hold.tell()
        for key, since in list(strangers.items()):
            if now - since >= STRANGER_AFTER_S:
                del strangers[key]
                log.warning("stranger_released", job_id=str(key[0]))
                returning = asyncio.create_task(self._release(*key))
                self._returning.add(returning)
                returning.add_done_callback(self._returning.discard)
        self._strangers = strangers

    def on_death(self, worker: UUID) -> None:
        """We were declared dead: others may hold our jobs by now."""
        for hold in self._holds.values():
            hold.lose()
        log.error("leases_lost", worker=str(worker), jobs=len(self._holds))

    def _is_mine(self, job: Claimed) -> bool:
        hold = self._holds.get(job.id)
        return hold is not None and not hold.is_lost and self._is_believed()

    async def _release(self, job_id: UUID, lease_no: int) -> None:
        await self._settler.settle(Settlement(id=job_id, lease_no=lease_no, verb=Verb.RELEASE))

    async def _run(
        self, hold: _Hold, max_age_s: float | None, done: Callable[[float | None], None]
    ) -> None:
        job, took_s = hold.job, None
        logs.bind(job_id=str(job.id), kind=job.kind, attempt=job.attempt)
        delay = self._clock.now() - max(job.run_at, job.created_at)
        metrics.START_DELAY_S.labels(job.queue).observe(max(0.0, delay.total_seconds()))
        try:
            ended = await self._ended(hold, max_age_s)
            took_s = ended.duration_s
            await self._settle(job, ended)
        except LeaseLost:
            log.warning("lease_lost")
            metrics.FINISHED.labels(job.queue, "lost").inc()
        finally:
            self._holds.pop(job.id, None)
            done(took_s)

    async def _ended(self, hold: _Hold, max_age_s: float | None) -> Ended:
        job, now = hold.job, self._clock.now()
        if hold.is_cancelled:
            return Ended(Cancel("cancelled before it started"), now, 0.0)
        if max_age_s is not None and now - job.created_at > timedelta(seconds=max_age_s):
            return Ended(Raised(EXPIRED, f"it waited longer than {max_age_s:g} s", False), now, 0.0)
        of = self._handlers.get(job.kind)
        if of is None:
            metrics.WITHOUT_HANDLER.labels(job.queue).inc()
        hold.ctx = self._context_of(job, of, self._is_mine)
        return await execute(of, job, hold.ctx, clock=self._clock)

    async def _settle(self, job: Claimed, ended: Ended) -> None:
        wanted = attempts.settlement(job, ended)
        status = await self._settler.settle(wanted)
        if status is Status.LOST:
            raise LeaseLost
        metrics.FINISHED.labels(job.queue, wanted.verb).inc()
        metrics.DURATION_S.labels(job.queue).observe(ended.duration_s)
        if wanted.error is not None:
            log.info("attempt_failed", verb=wanted.verb, type=wanted.error["type"])
