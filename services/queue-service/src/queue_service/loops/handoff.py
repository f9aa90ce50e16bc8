"""Has fresh jobs given to this worker while it is idle, so that they start after one commit.

Credit is offered after a look that found nothing; under load there is none. What is given while all
hands are busy for longer goes back at once, and so does what never arrives, with the beats. Nothing
is offered before the line by which jobs come has been heard: a pooler may carry everything but
notifications.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from uuid import UUID

from chassis import lifecycle
from chassis.kernel import errors
from queue_service import metrics
from queue_service.core.attempts import Claimed
from queue_service.core.credit import Credit
from queue_service.loops.attempts import Attempts
from queue_service.loops.producer import Producer

# What we think is left of our credit may be wrong for so long.
OFFER_AGAIN_S = 5.0
ARRIVED_WITHIN_S = 0.5
LOOK_S = 0.01


class HandOffs(lifecycle.Loop):
    """`worker()` is the id to be given jobs under now; `is_listening()`: is the line up?"""

    name = "handoffs"
    interval_s = 1.0

    def __init__(
        self,
        credit: Credit,
        *,
        producers: Callable[[str], Producer | None],
        attempts: Attempts,
        worker: Callable[[], UUID],
        is_listening: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._credit = credit
        self._producers = producers
        self._attempts = attempts
        self._worker = worker
        self._is_listening = is_listening
        self._is_heard = False
        self._is_closed = False
        self._is_overdrawn = False
        self._never_came = 0
        self._idle: set[str] = set()
        # By queue: how many may still come, and when that was said.
        self._left: dict[str, int] = {}
        self._offered: dict[str, float] = {}
        self._offered_by: UUID | None = None

    async def run_once(self) -> bool:
        if self._is_closed:
            return False
        self._see()
        if not self._is_heard or self._is_overdrawn:
            self._is_overdrawn = False
            await self._withdraw()
        if not self._is_heard and self._is_listening():
            await self._credit.ping()
        if self._is_heard:
            queues, self._idle = self._idle, set()
            for queue in queues:
                await self._offer(queue)
        return False

    def is_idle(self, queue: str) -> None:
        """A look found nothing for those that are free."""
        if self._is_due(queue):
            self._idle.add(queue)
            self.wake()

    def heard(self, told: str) -> None:
        """By the line; nothing when it is new, and whatever came before may be missing."""
        if not told:
            self._is_heard = False
            self.wake()
        elif (given := self._credit.read(told)) is None:
            self._is_heard = True
            self.wake()
        else:
            self._take(*given)

    async def close(self) -> None:
        """Be given nothing more; what is on its way arrives, as far as it does so soon."""
        self._is_closed = True
        try:
            left = await self._withdraw()
        except errors.Unavailable:
            return  # our row goes, and the credit with it
        for queue, jobs in left.items():
            self._left[queue] = self._left.get(queue, 0) - jobs
        deadline = time.monotonic() + ARRIVED_WITHIN_S
        while any(self._left.get(queue, 0) > 0 for queue in left) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_S)

    def _see(self) -> None:
        """A line that is down, or that lost something, must be heard again."""
        if self._attempts.never_came > self._never_came or not self._is_listening():
            self._is_heard = False
        self._never_came = self._attempts.never_came

    async def _withdraw(self) -> Mapping[str, int]:
        """What was left of what had been offered, by queue."""
        if not self._offered:
            return {}
        left = await self._credit.withdraw(self._offered_by or self._worker())
        self._offered.clear()
        return left

    async def _offer(self, queue: str) -> None:
        producer, worker = self._producers(queue), self._worker()
        room = 0 if producer is None else producer.room
        if room <= 0:
            return
        if worker != self._offered_by:
            # What the one before was given is lost with it.
            self._offered_by, self._left = worker, {}
        self._left[queue], self._offered[queue] = room, time.monotonic()
        if not await self._credit.offer(queue, worker, room):
            self._left[queue] = 0
            self._idle.add(queue)

    def _is_due(self, queue: str) -> bool:
        producer = self._producers(queue)
        room = 0 if producer is None else producer.room
        since_s = time.monotonic() - self._offered.get(queue, -OFFER_AGAIN_S)
        return room > 0 and (2 * self._left.get(queue, 0) < room or since_s >= OFFER_AGAIN_S)

    def _take(self, worker: UUID, job: Claimed) -> None:
        self._left[job.queue] = self._left.get(job.queue, 0) - 1
        producer = self._producers(job.queue)
        if producer is None or worker != self._worker() or self._attempts.knows(job):
            metrics.HANDED.labels("ignored").inc()
        elif producer.starts_soon:
            metrics.HANDED.labels("started").inc()
            producer.hand([job])
        else:
            metrics.HANDED.labels("returned").inc()
            producer.refuse(job)
            self._is_overdrawn = True
            self.wake()
