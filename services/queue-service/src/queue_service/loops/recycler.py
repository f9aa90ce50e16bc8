"""Handlers that do not stop when their time is over.

A thread cannot be stopped, and a coroutine may refuse to. Their jobs end all the same; what still
runs is counted, and when there is too much of it the process stops, to be started anew.
"""

from collections.abc import Callable
from typing import Protocol

from chassis import lifecycle, logs
from queue_service import metrics

log = logs.get(__name__)

# Endings are written within this; who needs longer has not been stopped by its cancellation.
OVERDUE_S = 15.0


class Running(Protocol):
    async def abandon(self, *, overdue_s: float) -> int:
        """End jobs whose handlers go on so long behind their time; how many of these go on."""
        ...


class Threads(Protocol):
    abandoned: int


class Recycler(lifecycle.Loop):
    name = "recycler"
    interval_s = 5.0

    def __init__(
        self, running: Running, threads: Threads, *, limit: int, stop: Callable[[], None]
    ) -> None:
        super().__init__()
        self._running = running
        self._threads = threads
        self._limit = limit
        self._stop = stop

    async def run_once(self) -> bool:
        lost = await self._running.abandon(overdue_s=OVERDUE_S) + self._threads.abandoned
        metrics.ABANDONED.set(lost)
        if lost >= self._limit:
            log.error("too_many_abandoned", handlers=lost, limit=self._limit)
            self._stop()
        return False
