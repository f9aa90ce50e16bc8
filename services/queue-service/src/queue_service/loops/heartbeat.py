"""The worker's pulse: from a thread of its own, so that a busy event loop is not taken for dead.

Each beat also brings what the database thinks this worker holds. A beat that finds its row gone
means that the worker was declared dead: everything it held is lost, and it goes on under a new id.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from chassis import logs
from chassis.kernel import errors, ids
from queue_service.core.leasing import BEAT_EVERY_S, LEASE_S, Held

log = logs.get(__name__)

STOP_WITHIN_S = 3.0
RETRY_S = 0.2


class Pulse(Protocol):
    """A connection of the thread's own."""

    async def register(self, worker: UUID, name: str) -> None: ...

    async def beat(self, worker: UUID) -> Sequence[Held] | None:
        """None: there is no such worker any more."""
        ...

    async def sign_off(self, worker: UUID) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Beat:
    worker: UUID
    held: Sequence[Held]


class Heartbeat:
    """`start()`, then `stop()`. `worker` is the id to claim under now."""

    def __init__(
        self,
        *,
        connect: Callable[[], Pulse],
        name: str,
    ) -> None:
        self.worker = ids.new_id()
        self._connect = connect
        self._name = name
        self._on_beat: Callable[[Beat], None] = lambda _beat: None
        self._on_death: Callable[[UUID], None] = lambda _worker: None
        self._believed_until = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="heartbeat", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_believed(self) -> bool:
        """May our leases still be ours, by our own clock?"""
        return time.monotonic() < self._believed_until

    def start(self, *, on_beat: Callable[[Beat], None], on_death: Callable[[UUID], None]) -> None:
        """Callbacks run on the running loop."""
        self._on_beat, self._on_death = on_beat, on_death
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Sign off, so that nobody waits for our death."""
        self._stop.set()
        await asyncio.to_thread(self._thread.join, STOP_WITHIN_S)

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        pulse = self._connect()
        is_registered = False
        while not self._stop.is_set():
            try:
                if not is_registered:
                    await pulse.register(self.worker, self._name)
                    is_registered = True
                is_registered = await self._beat(pulse)
            except errors.Unavailable as error:
                log.warning("beat_missed", code=error.code)
            except Exception as error:
                # Without a pulse the worker is dead: whatever it was, the next beat may do.
                log.error("beat_failed", exc_info=error)
                is_registered = False
            await asyncio.to_thread(self._stop.wait, BEAT_EVERY_S if is_registered else RETRY_S)
        await self._sign_off(pulse)

    async def _beat(self, pulse: Pulse) -> bool:
        sent = time.monotonic()
        held = await pulse.beat(self.worker)
        if held is None:
            log.error("declared_dead", worker=str(self.worker))
            self._believed_until = 0.0
            self._tell(self._on_death, self.worker)
            self.worker = ids.new_id()
            return False
        self._believed_until = sent + LEASE_S
        self._tell(self._on_beat, Beat(self.worker, held))
        return True

    async def _sign_off(self, pulse: Pulse) -> None:
        try:
            await pulse.sign_off(self.worker)
            await pulse.close()
        except errors.Unavailable:
            log.info("sign_off_failed")

    def _tell(self, whom: Callable[..., None], what: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(whom, what)
        except RuntimeError:
            self._stop.set()  # the process's loop is closed: there is nobody left to beat for
