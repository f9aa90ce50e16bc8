"""The jobs this process holds: leased to it, running, or ended but not settled yet."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from chassis import logs
from chassis.crypto import SealBroken
from chassis.kernel.clock import Clock
from chassis.web import trace
from mainstay.handler import Cancel, Handler
from queue_service import metrics
from queue_service.core.attempts import (
    Claimed,
    Ended,
    Raised,
    Settlement,
    Verb,
    settlement,
    without_handler,
)
from queue_service.core.context import IsMine, JobContext, LeaseLost
from queue_service.core.execute import execute
from queue_service.core.leasing import Settlements
from queue_service.loops.heartbeat import Beat

log = logs.get(__name__)

# The answer to a claim takes at most 5 s: what is still unknown here then, never arrived.
STRANGER_AFTER_S = 6.0
# What was handed over is told at once: by the next beat it was lost.
HANDED_STRANGER_AFTER_S = 1.5
MAX_RETURNED = 10_000
MAX_LACKING = 10_000

Lease = tuple[UUID, int]


class ContextOf(Protocol):
    def __call__(self, job: Claimed, of: Handler[Any] | None, is_mine: IsMine) -> JobContext: ...


@dataclass(slots=True)
class Hold:
    """One job in our hands. `ctx` is there while it runs, `let_go` while it waits: whoever runs it
    is no longer to be counted on."""

    job: Claimed
    is_lost: bool = False
    is_cancelled: bool = False
    ctx: JobContext | None = None
    let_go: Callable[[], None] | None = None

    def tell(self) -> None:
        if self.ctx is not None:
            self.ctx.cancelled.set()


class Attempts:
    """`is_believed`: may leases of this worker still be ours, by our own clock?"""

    def __init__(
        self,
        *,
        handlers: Mapping[str, Handler[Any]],
        store: Settlements,
        context_of: ContextOf,
        is_believed: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._handlers = handlers
        self._store = store
        self._context_of = context_of
        self._is_believed = is_believed
        self._clock = clock
        # By lease: the same job may come again while an attempt that was lost is still running.
        self._holds: dict[Lease, Hold] = {}
        self._strangers: dict[Lease, float] = {}
        # Given back unseen, the latest last: what is told of them yet comes too late.
        self._returned: dict[Lease, None] = {}
        self.never_came = 0
        self._returning: set[asyncio.Task[None]] = set()
        self._abandoned: list[Hold] = []
        # Since when jobs of a kind have been met that nothing here can run.
        self._lacking: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._holds)

    def take(self, job: Claimed) -> Hold:
        """A claim has answered: from now on the job is known to be in our hands."""
        hold = self._holds[job.id, job.lease_no] = Hold(job)
        return hold

    def knows(self, job: Claimed) -> bool:
        """Is it in our hands, or has it been given back already?"""
        return (job.id, job.lease_no) in self._holds or (job.id, job.lease_no) in self._returned

    def drop(self, hold: Hold) -> None:
        """It is settled, or somebody else's."""
        self._holds.pop((hold.job.id, hold.job.lease_no), None)

    async def run(self, hold: Hold, *, max_age_s: float | None) -> Settlement | None:
        """What is to be written down about it. None: the lease may be gone, nothing counts."""
        job = hold.job
        trace.forget()
        if hold.is_lost or not self._is_believed():
            self.drop(hold)
            return None
        try:
            ended = await self._ended(hold, max_age_s)
        except LeaseLost:
            log.warning("lease_lost", job_id=str(job.id), kind=job.kind)
            self.drop(hold)
            return None
        finally:
            hold.ctx = None
        metrics.duration_s(job.queue).observe(ended.duration_s)
        try:
            written = settlement(job, ended)
        except Exception as error:  # noqa: BLE001 - whatever a handler has put into its outcome
            wrong = Raised("wrong_outcome", type(error).__name__, False)
            written = settlement(job, ended._replace(ending=wrong))
        return written._replace(is_sealed=True) if job.is_sealed else written

    def on_beat(self, beat: Beat) -> None:
        """Pass on cancellations; notice what the database gave us and we never got."""
        now = time.monotonic()
        strangers: dict[Lease, float] = {}
        for held in beat.held:
            key = (held.id, held.lease_no)
            hold = self._holds.get(key)
            if hold is None:
                strangers[key] = since = self._strangers.get(key, now)
                if held.is_handed and now - since >= HANDED_STRANGER_AFTER_S:
                    self.never_came += 1
                    strangers[key] = now - STRANGER_AFTER_S
            elif held.cancel_requested and not hold.is_cancelled:
                hold.is_cancelled = True
                hold.tell()
        for key, since in list(strangers.items()):
            if now - since >= STRANGER_AFTER_S:
                del strangers[key]
                self._give_back_stranger(*key)
        self._strangers = strangers

    def on_death(self, worker: UUID) -> None:
        """We were declared dead: others may hold our jobs by now."""
        for hold in self._holds.values():
            hold.is_lost = True
            hold.tell()
        log.error("leases_lost", worker=str(worker), jobs=len(self._holds))

    async def abandon(self, *, overdue_s: float) -> int:
        """End jobs whose handlers go on so long behind their time; how many of these go on."""
        before = time.monotonic() - overdue_s
        late = [
            hold
            for hold in self._holds.values()
            if hold.ctx is not None and hold.ctx.deadline < before
        ]
        if ours := [hold for hold in late if not hold.is_lost]:
            await self._store.settle([self._timed_out(hold) for hold in ours])
        for hold in late:
            log.error("handler_abandoned", job_id=str(hold.job.id), kind=hold.job.kind)
            hold.is_lost = True
            self.drop(hold)
            if hold.let_go is not None:
                hold.let_go()
        self._abandoned = [hold for hold in (*self._abandoned, *late) if hold.ctx is not None]
        return len(self._abandoned)

    def _timed_out(self, hold: Hold) -> Settlement:
        raised = Raised("timeout", "it did not stop when its time was over", True)
        ended = Ended(raised, self._clock.now(), 0.0, is_marked=True)
        return settlement(hold.job, ended)

    def _is_mine(self, job: Claimed) -> bool:
        hold = self._holds.get((job.id, job.lease_no))
        return hold is not None and not hold.is_lost and self._is_believed()

    async def _ended(self, hold: Hold, max_age_s: float | None) -> Ended:
        job, now = hold.job, self._clock.now()
        delay = now - max(job.run_at, job.created_at)
        metrics.start_delay_s(job.queue).observe(max(0.0, delay.total_seconds()))
        if hold.is_cancelled:
            return Ended(Cancel("cancelled before it started"), now, 0.0)
        if job.is_broken:
            return Ended(Raised(SealBroken.code, str(SealBroken()), True), now, 0.0)
        if max_age_s is not None and now - job.created_at > timedelta(seconds=max_age_s):
            expired = Raised("expired", f"it waited longer than {max_age_s:g} s", False)
            return Ended(expired, now, 0.0)
        of = self._handlers.get(job.kind)
        if of is None:
            return self._without_handler(job, now)
        hold.ctx = self._context_of(job, of, self._is_mine)
        return await execute(of, job, hold.ctx, clock=self._clock)

    def _without_handler(self, job: Claimed, now: datetime) -> Ended:
        metrics.WITHOUT_HANDLER.labels(job.queue).inc()
        if len(self._lacking) > MAX_LACKING:
            self._lacking.clear()
        met = time.monotonic()
        lacking_s = met - self._lacking.setdefault(job.kind, met)
        return Ended(without_handler(job, now, lacking_s=lacking_s), now, 0.0)

    def _give_back_stranger(self, job_id: UUID, lease_no: int) -> None:
        log.warning("stranger_released", job_id=str(job_id))
        self._returned[job_id, lease_no] = None
        if len(self._returned) > MAX_RETURNED:
            del self._returned[next(iter(self._returned))]
        release = Settlement(id=job_id, lease_no=lease_no, verb=Verb.RELEASE)

        async def give_back() -> None:
            await self._store.settle([release])

        task = asyncio.create_task(give_back(), name=f"release:{job_id}")
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)
