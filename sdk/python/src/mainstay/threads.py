"""Threads for handlers that are plain functions.

A thread cannot be stopped. One whose job has run out of time is abandoned: the job has ended, the
thread goes on until its function returns, and is counted meanwhile. They are daemons, so that one
that never returns keeps no process alive.
"""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

IDLE_S = 30.0
_Work = Callable[[], None]


class Threads:
    """As many as are needed at once: who calls bounds them. `abandoned` are lost at this moment,
    `abandoned_total` have ever been."""

    def __init__(self) -> None:
        self.abandoned = 0
        self.abandoned_total = 0
        self._work: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()

    async def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """What it returns or raises. A cancellation ends the waiting at once."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = contextvars.copy_context()

        def work() -> None:
            try:
                result, error = context.run(call, *args), None
            except BaseException as raised:  # noqa: BLE001 - it is raised where it is awaited
                result, error = None, raised
            try:
                loop.call_soon_threadsafe(self._tell, done, result, error)
            except RuntimeError:
                pass  # the loop is gone, and with it whoever waited

        self._hand_over(work)
        try:
            return await done
        except asyncio.CancelledError:
            if done.cancelled():
                self.abandoned += 1
                self.abandoned_total += 1
            raise

    def _tell(self, done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        if done.cancelled():
            self.abandoned -= 1
        elif isinstance(error, StopIteration):
            done.set_exception(RuntimeError("the handler raised StopIteration"))
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def _hand_over(self, work: _Work) -> None:
        with self._lock:
            is_one_idle = self._idle > 0
            if is_one_idle:
                self._idle -= 1
        self._work.put(work) if is_one_idle else self._start(work)

    def _start(self, work: _Work) -> None:
        threading.Thread(target=self._serve, args=(work,), name="handler", daemon=True).start()

    def _serve(self, work: _Work | None) -> None:
        while work is not None:
            work()
            with self._lock:
                self._idle += 1
            work = self._next()

    def _next(self) -> _Work | None:
        """None: nothing came for a while. Whoever hands over has counted on one idle thread."""
        try:
            return self._work.get(timeout=IDLE_S)
        except queue.Empty:
            with self._lock:
                if self._idle:
                    self._idle -= 1
                    return None
            return self._work.get()


THREADS = Threads()
