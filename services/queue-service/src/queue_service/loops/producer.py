"""Keeps one queue's hands busy: writes down what has ended and claims what can start soon, both in
one statement; the hands take jobs as they come free.

How many run at once is the queue's `concurrency`. How many are leased beyond that follows the
measured time of a job: as many as will be started within `AHEAD_S`, none while jobs are slow. An
ending that cannot be written waits here until the database is back; it is lost only with its lease,
and then its job runs again.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from uuid import UUID

from chassis import lifecycle, logs
from queue_service import metrics
from queue_service.core.attempts import Claimed, Settlement, Status, Verb
from queue_service.core.leasing import Claim, Claims, WorkerQueue
from queue_service.core.stepping import resumed
from queue_service.loops.attempts import Attempts, Hold

log = logs.get(__name__)

AHEAD_S = 0.2
MAX_AHEAD = 1000
MAX_CLAIM = 500
MAX_LANES = 500
# Weight of the newest job in the running mean of their time.
NEWEST = 0.05
# A handler that never waits must not keep the loop from everything else.
YIELD_EVERY = 16
SETTLE_POLL_S = 0.05


class Producer(lifecycle.Loop):
    """`worker()` is the id under which to claim now; `on_idle(queue)` when a look found nothing for
    those that are free."""

    def __init__(
        self,
        queue: WorkerQueue,
        *,
        claims: Claims,
        attempts: Attempts,
        worker: Callable[[], UUID],
        poll_interval_s: float,
        on_idle: Callable[[str], None] = lambda _queue: None,
    ) -> None:
        super().__init__()
        self.name = f"producer:{queue.name}"
        self.interval_s = poll_interval_s
        self.queue = queue
        self._claims = claims
        self._attempts = attempts
        self._worker = worker
        self._on_idle = on_idle
        self._waiting: deque[Hold] = deque()
        self._ended: list[tuple[Hold, Settlement]] = []
        self._hands: set[asyncio.Task[None]] = set()
        # Of handlers that do not stop: no longer counted, nor waited for.
        self._gone: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._running = 0
        self._held_up = 0
        self._mean_s: float | None = None
        self._is_draining = False
        self._is_asking = False
        self._found_none = False

    @property
    def room(self) -> int:
        """How many more could start now, as far as the queue itself holds none for them."""
        return self.free if self._found_none else 0

    @property
    def free(self) -> int:
        """How many more could start now."""
        if self._is_draining:
            return 0
        return self.queue.concurrency - self._running - len(self._waiting)

    @property
    def starts_soon(self) -> bool:
        """Would one more start about as soon as what is claimed ahead?"""
        return not self._is_draining and self.free + self._ahead() > 0

    async def run_once(self) -> bool:
        """Settle and claim once. True while there is more of either to do at once."""
        if not self.queue.concurrency:
            self._give_back()
        self._call_hands()
        ended, want = self._ended[:MAX_CLAIM], self._want()
        if not ended and want <= 0:
            return False
        claim = Claim(self.queue.name, self._worker(), max(want, 0), min(max(want, 1), MAX_LANES))
        self._is_asking = True
        try:
            statuses, jobs, dry = await self._claims.settle_and_claim(
                [settlement for _, settlement in ended], claim
            )
        finally:
            self._is_asking = False
        del self._ended[: len(ended)]
        self._count(ended, statuses)
        self.hand(jobs)
        woken = await self._claims.wake([*dry, *_released(ended)])
        self._found_none = want > 0 and not (jobs or dry)
        if self.room > 0:
            self._on_idle(self.queue.name)
        return bool(self._ended) or (self._want() > 0 and (woken or bool(jobs or dry)))

    def hand(self, jobs: Iterable[Claimed]) -> None:
        """Jobs that are leased to this worker now."""
        self._waiting.extend(map(self._attempts.take, jobs))
        if self._is_draining or not self.queue.concurrency:
            self._give_back()
        else:
            # What came by two ways at once, or was claimed ahead of jobs that now take longer.
            self._give_back(keep=max(0, self.queue.concurrency + self._ahead() - self._running))
        self._call_hands()

    def refuse(self, job: Claimed) -> None:
        """As `hand`, of what nobody here can start: it goes back at once."""
        hold = self._attempts.take(job)
        self._end(hold, Settlement(id=job.id, lease_no=job.lease_no, verb=Verb.RELEASE))

    async def drain(self, *, grace_s: float, interrupt_s: float) -> None:
        """Start nothing more and give back what has not started; let what runs end, then interrupt
        it; write down all of it."""
        self._is_draining = True
        self._give_back()
        self._call_hands()
        if self._hands:
            await asyncio.wait(self._hands, timeout=grace_s)
        late = set(self._hands)
        for hand in late:
            hand.cancel()
        if late:
            log.warning("interrupted", queue=self.queue.name, jobs=len(late))
            await asyncio.wait(late, timeout=interrupt_s)
        await self._write_down(within_s=interrupt_s)

    async def _write_down(self, *, within_s: float) -> None:
        """The loop itself does it; we only wait, also for a claim that is still to be answered."""
        deadline = time.monotonic() + within_s
        while (self._ended or self._is_asking) and time.monotonic() < deadline:
            self.wake()
            await asyncio.sleep(SETTLE_POLL_S)

    def _give_back(self, *, keep: int = 0) -> None:
        while len(self._waiting) > keep:
            hold = self._waiting.pop()
            job = hold.job
            self._end(hold, Settlement(id=job.id, lease_no=job.lease_no, verb=Verb.RELEASE))

    def _want(self) -> int:
        if self._is_draining:
            return 0
        held, ahead = self._running + len(self._waiting), self._ahead()
        # A claim costs a round trip: wait until a good part of what is ahead has been used.
        if held > self.queue.concurrency + ahead // 2:
            return 0
        return min(self.queue.concurrency + ahead - held, MAX_CLAIM)

    def _ahead(self) -> int:
        if self._mean_s is None:
            return 0
        return min(MAX_AHEAD, int(self.queue.concurrency * AHEAD_S / max(self._mean_s, 1e-5)))

    def _call_hands(self) -> None:
        """One for what waits, unless one is free; it calls the next when its job has to wait. So
        jobs that never wait are all run by one hand, without a switch of tasks. Those too many may
        go."""
        while self._idle and (self._is_draining or len(self._hands) > self.queue.concurrency):
            self._idle.popleft().set_result(None)
        if not self._waiting or len(self._hands) > len(self._idle) + self._held_up:
            return
        if self._idle:
            self._idle.popleft().set_result(None)
        elif len(self._hands) < self.queue.concurrency:
            hand = asyncio.create_task(self._work(), name=f"hand:{self.queue.name}")
            self._hands.add(hand)
            hand.add_done_callback(self._hand_gone)

    def _hand_gone(self, hand: asyncio.Task[None]) -> None:
        self._hands.discard(hand)
        self._gone.discard(hand)
        if not hand.cancelled() and (error := hand.exception()) is not None:
            log.error("hand_broke", queue=self.queue.name, exc_info=error)
        self._call_hands()

    async def _work(self) -> None:
        """One hand: a job at a time, until there are too many hands."""
        done = 0
        me = _me()
        while me in self._hands and self._may_go_on():
            if not self._waiting:
                free = asyncio.get_running_loop().create_future()
                self._idle.append(free)
                await free
                continue
            await self._run(self._waiting.popleft())
            done += 1
            if done % YIELD_EVERY == 0:
                await asyncio.sleep(0)

    def _may_go_on(self) -> bool:
        return len(self._hands) <= self.queue.concurrency and not self._is_draining

    async def _run(self, hold: Hold) -> None:
        self._running += 1
        started = time.monotonic()
        try:
            settlement = await self._attempt(hold)
        except Exception:
            # Nobody holds it any more: the next beats find it a stranger, and it goes back.
            self._attempts.drop(hold)
            raise
        finally:
            self._running -= _me() not in self._gone
            self._learn(time.monotonic() - started)
        if settlement is not None:
            self._end(hold, settlement)
        elif self._want() > 0:
            self.wake()

    async def _attempt(self, hold: Hold) -> Settlement | None:
        attempt = self._attempts.run(hold, max_age_s=self.queue.max_age_s)
        try:
            waits_for = attempt.send(None)
        except StopIteration as done:
            settlement: Settlement | None = done.value
            return settlement
        self._held_up += 1
        hold.let_go = partial(self._let_go, _me())
        self._call_hands()
        try:
            return await resumed(attempt, waits_for)
        finally:
            hold.let_go = None
            self._held_up -= _me() not in self._gone

    def _let_go(self, hand: asyncio.Task[None]) -> None:
        """Another hand may be hired in its place."""
        self._hands.discard(hand)
        self._gone.add(hand)
        self._running -= 1
        self._held_up -= 1
        self._call_hands()
        self.wake()

    def _end(self, hold: Hold, settlement: Settlement) -> None:
        self._ended.append((hold, settlement))
        self.wake()

    def _learn(self, took_s: float) -> None:
        mean_s = self._mean_s
        self._mean_s = took_s if mean_s is None else mean_s + NEWEST * (took_s - mean_s)

    def _count(self, ended: Sequence[tuple[Hold, Settlement]], statuses: Sequence[Status]) -> None:
        outcomes: Counter[str] = Counter()
        for (hold, settlement), status in zip(ended, statuses, strict=True):
            self._attempts.drop(hold)
            outcome = "lost" if status is Status.LOST else settlement.verb.value
            outcomes[outcome] += 1
            if settlement.error is not None:
                log.info(
                    "attempt_failed",
                    job_id=str(settlement.id),
                    verb=outcome,
                    type=settlement.error["type"],
                )
        for outcome, count in outcomes.items():
            metrics.finished(self.queue.name, outcome).inc(count)


def _me() -> asyncio.Task[None]:
    me = asyncio.current_task()
    assert me is not None
    return me


def _released(ended: Iterable[tuple[Hold, Settlement]]) -> list[int]:
    """The lanes of what went back: their claimers must hear of it."""
    return [hold.job.lane for hold, settlement in ended if settlement.verb is Verb.RELEASE]
