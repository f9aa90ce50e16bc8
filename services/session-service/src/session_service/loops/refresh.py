"""Renews the pairs that this replica's callers use, before they would have to wait for it."""

import asyncio

from chassis import lifecycle, logs
from chassis.kernel import errors
from session_service.core.granting import Grants
from session_service.core.grants import Refresh
from session_service.core.used import Due, Used

log = logs.get(__name__)

AT_ONCE = 8


class RefreshLoop(lifecycle.Loop):
    name = "session_refresh"
    interval_s = 5.0

    def __init__(self, grants: Grants, used: Used) -> None:
        super().__init__()
        self._grants = grants
        self._used = used
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def run_once(self) -> bool:
        await asyncio.gather(*(self._renew(due) for due in self._used.due()))
        return False

    async def _renew(self, due: Due) -> None:
        async with self._turn:
            try:
                await self._grants.obtain(due.id, due.shop, Refresh(over_gen=due.gen))
            except errors.Fault as fault:
                log.info("session_not_renewed", session=due.id, code=fault.code)
