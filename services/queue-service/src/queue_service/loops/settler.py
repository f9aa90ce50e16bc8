"""Endings of attempts into the store, many per statement; each caller waits for its own commit.

While the store is away endings wait here and are written when it is back: an ending is lost only
with its lease, and then its job runs again.
"""

import asyncio
from dataclasses import dataclass, field

from chassis import logs
from chassis.kernel import backoff, errors
from queue_service.core.attempts import Settlement, Status
from queue_service.core.leasing import Settlements

log = logs.get(__name__)

MAX_ROWS = 500
RETRY_BASE_S = 0.1
RETRY_MAX_S = 2.0


@dataclass(slots=True)
class _Call:
    settlement: Settlement
    done: asyncio.Future[Status] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Settler:
    """`run()` belongs under a Supervisor."""

    def __init__(self, store: Settlements) -> None:
        self._store = store
        self._waiting: list[_Call] = []
        self._arrived = asyncio.Event()
        self._failures = 0

    async def settle(self, settlement: Settlement) -> Status:
        call = _Call(settlement)
        self._waiting.append(call)
        self._arrived.set()
        return await call.done

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            await self.run_once()

    async def run_once(self) -> None:
        """One statement for what has gathered; after a failure a pause, and the same again."""
        calls = self._waiting[:MAX_ROWS]
        try:
            statuses = await self._store.settle([call.settlement for call in calls])
        except errors.Unavailable as error:
            await self._pause(error)
            return
        self._failures = 0
        del self._waiting[: len(calls)]
        if not self._waiting:
            self._arrived.clear()
        for call, status in zip(calls, statuses, strict=True):
            if not call.done.done():
                call.done.set_result(status)

    async def _pause(self, error: errors.Unavailable) -> None:
        self._failures += 1
        if self._failures == 1:
            log.warning("settle_waits", waiting=len(self._waiting), code=error.code)
        await asyncio.sleep(backoff.delay_s(self._failures, base_s=RETRY_BASE_S, max_s=RETRY_MAX_S))
