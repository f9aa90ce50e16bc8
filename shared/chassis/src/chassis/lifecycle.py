"""Background work: a loop is one testable pass; the while, the sleep and the except live here.

A pass that fails is logged, counted and tried again with back-off: a dead database must not end a
process. A loop that ends by itself is a bug and ends the process through `Supervisor.failed`.
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from chassis import logs, metrics
from chassis.kernel import backoff

log = logs.get(__name__)

BACKOFF_BASE_S = 0.2
BACKOFF_MAX_S = 10.0
STALL_S = 60.0


class Loop(ABC):
    """`run_once` does one bounded pass and says whether there is more to do at once."""

    name: str
    interval_s: float
    jitter = 0.2

    def __init__(self) -> None:
        self._wake = asyncio.Event()
        self.passes = 0
        self.failures = 0
        self.beat = time.monotonic()

    @abstractmethod
    async def run_once(self) -> bool: ...

    def wake(self) -> None:
        """Run the next pass now; many calls before it are one."""
        self._wake.set()

    async def rest(self, seconds: float) -> None:
        """Wait for the interval or a wake-up, whichever is first."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def run_forever(self) -> None:
        while True:
            self.beat = time.monotonic()
            more = await self.guarded_pass()
            self.passes += 1
            if self.failures:
                pause_s = backoff.delay_s(self.failures, base_s=BACKOFF_BASE_S, max_s=BACKOFF_MAX_S)
                await asyncio.sleep(pause_s)
            elif not more:
                await self.rest(self.interval_s * random.uniform(1 - self.jitter, 1 + self.jitter))

    async def guarded_pass(self) -> bool:
        """`run_once`, measured; a failure is logged and counted in `failures`."""
        started = time.monotonic()
        try:
            more = await self.run_once()
        except Exception as error:
            # One line when trouble starts, then every tenth: a night without a database is not
            # a reason for a million tracebacks.
            self.failures += 1
            if self.failures % 10 == 1:
                log.warning(
                    "loop_pass_failed", loop=self.name, failures=self.failures, exc_info=error
                )
            metrics.LOOP_PASSES.labels(self.name, "failed").inc()
            return False
        self.failures = 0
        metrics.LOOP_PASSES.labels(self.name, "ok").inc()
        metrics.LOOP_DURATION_S.labels(self.name).observe(time.monotonic() - started)
        metrics.LOOP_LAST_SUCCESS.labels(self.name).set_to_current_time()
        return more


class Supervisor:
    """Owns the process's tasks. `failed` is set when one of them ends without being asked."""

    def __init__(self) -> None:
        self.failed = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loops: list[Loop] = []
        self._stopping = False

    def start(self, loop: Loop) -> None:
        self._loops.append(loop)
        self.spawn(f"loop:{loop.name}", loop.run_forever())

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run something that is meant never to end."""
        task = asyncio.create_task(work, name=name)
        self._tasks[name] = task
        task.add_done_callback(self._ended)

    def stalled(self) -> list[str]:
        """Loops that have not begun a pass for a minute longer than they rest between two."""
        now = time.monotonic()
        return [
            loop.name for loop in self._loops if now - loop.beat > STALL_S + 2 * loop.interval_s
        ]

    async def stop(self, *, timeout_s: float = 5.0) -> None:
        """Cancel all and wait. Idempotent. Tasks that refuse to end are named."""
        self._stopping = True
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            _done, pending = await asyncio.wait(self._tasks.values(), timeout=timeout_s)
            for task in pending:
                log.error("task_refuses_to_end", task=task.get_name())
        self._tasks.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._stopping:
            return
        error = None if task.cancelled() else task.exception()
        log.error("task_ended", task=task.get_name(), exc_info=error)
        self.failed.set()


class LagProbe(Loop):
    """Measures how late a timer fires: the one sign of a blocked event loop."""

    name = "event_loop_lag"
    interval_s = 1.0

    async def run_once(self) -> bool:
        started = time.monotonic()
        await asyncio.sleep(0.05)
        metrics.EVENT_LOOP_LAG_S.set(max(0.0, time.monotonic() - started - 0.05))
        return False
