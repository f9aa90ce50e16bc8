"""Keeps one queue's hands busy: claims as many jobs as can start soon, starts them as hands free.

How many run at once is the queue's `concurrency`. How many are leased beyond that follows the
measured time of a job: as many as will be started within `AHEAD_S`, none while jobs are slow.
"""

from collections import deque
from collections.abc import Callable
from uuid import UUID

from chassis import lifecycle
from queue_service.core.attempts import Claimed
from queue_service.core.leasing import Claims, WorkerQueue
from queue_service.loops.attempts import Attempts

AHEAD_S = 0.2
MAX_AHEAD = 500
MAX_LANES = 64
# Weight of the newest job in the running mean of their time.
NEWEST = 0.05


class Producer(lifecycle.Loop):
    """`worker()` is the id under which to claim now."""

    def __init__(
        self,
        queue: WorkerQueue,
        *,
        claims: Claims,
        attempts: Attempts,
        worker: Callable[[], UUID],
        poll_interval_s: float,
    ) -> None:
        super().__init__()
        self.name = f"producer:{queue.name}"
        self.interval_s = poll_interval_s
        self.queue = queue
        self._claims = claims
        self._attempts = attempts
        self._worker = worker
        self._waiting: deque[Claimed] = deque()
        self._running = 0
        self._mean_s: float | None = None
        self._is_draining = False

    async def run_once(self) -> bool:
        want = self._room()
        if want <= 0:
            return False
        lanes = min(want, MAX_LANES)
        jobs, dry = await self._claims.claim(
            self.queue.name, self._worker(), want=want, lanes=lanes
        )
        for job in jobs:
            self._attempts.take(job)
        self._waiting.extend(jobs)
        self._start()
        woken = await self._claims.wake(dry)
        return self._room() > 0 and (woken or bool(jobs))

    async def drain(self) -> None:
        """Claim and start nothing more; what has not started goes back at once."""
        self._is_draining = True
        unstarted = list(self._waiting)
        self._waiting.clear()
        if unstarted:
            await self._attempts.give_back(unstarted)

    def _room(self) -> int:
        if self._is_draining:
            return 0
        held = self._running + len(self._waiting)
        target = self.queue.concurrency + self._ahead()
        # A claim costs a round trip: wait until a good part of what is ahead has been used.
        return target - held if held <= self.queue.concurrency + self._ahead() // 2 else 0

    def _ahead(self) -> int:
        if self._mean_s is None:
            return 0
        return min(MAX_AHEAD, int(self.queue.concurrency * AHEAD_S / max(self._mean_s, 1e-5)))

    def _start(self) -> None:
        while self._waiting and self._running < self.queue.concurrency and not self._is_draining:
            job = self._waiting.popleft()
            if self._attempts.start(job, max_age_s=self.queue.max_age_s, done=self._ended):
                self._running += 1

    def _ended(self, took_s: float | None) -> None:
        self._running -= 1
        if took_s is not None:
            mean_s = self._mean_s
            self._mean_s = took_s if mean_s is None else mean_s + NEWEST * (took_s - mean_s)
        self._start()
        if self._room() > 0:
            self.wake()
