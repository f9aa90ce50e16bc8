"""Keeping pairs alive that nobody uses: a refresh token ends 90 days after it was last used.

Each hour has its share of the shops, by a hash of their names; those that are nearly at their end
do not wait for their hour. The work of an hour is claimed in the database by one replica.
"""

import asyncio

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from session_service.core import copying
from session_service.core.granting import Grants
from session_service.core.grants import Refresh
from session_service.core.ports import GrantStore, LeaseStore, RunStore, Warm

NAME = "keep_warm"
PERIOD_S = 3600.0
STUCK_S = 600.0
DAY_MS = 86_400_000
WITHIN_MS = 30 * DAY_MS
URGENT_MS = 7 * DAY_MS
CHUNK = 100
AT_ONCE = 4


class Warming:
    def __init__(
        self,
        *,
        grants: Grants,
        store: GrantStore,
        leases: LeaseStore,
        runs: RunStore,
        clock: Clock,
    ) -> None:
        self._grants = grants
        self._store = store
        self._leases = leases
        self._runs = runs
        self._clock = clock

    async def when_due(self) -> int | None:
        """How many were renewed; None when it is not our turn."""
        if not await self._runs.claim(NAME, period_s=PERIOD_S, stuck_s=STUCK_S):
            return None
        return await self.now()

    async def now(self) -> int:
        renewed = 0
        tried: set[tuple[str, int]] = set()
        while True:
            rows = await self._store.warm(
                now_ms=copying.now_ms(self._clock),
                within_ms=WITHIN_MS,
                urgent_ms=URGENT_MS,
                hour=self._clock.now().hour,
                limit=CHUNK,
            )
            fresh = [row for row in rows if (row.id, row.gen) not in tried]
            if not fresh:
                break
            tried |= {(row.id, row.gen) for row in fresh}
            renewed += await self._renew_all(fresh)
        await self._leases.delete_ended()
        await self._runs.finish(NAME, handled=renewed)
        return renewed

    async def _renew_all(self, rows: list[Warm]) -> int:
        turn = asyncio.Semaphore(AT_ONCE)

        async def one(row: Warm) -> bool:
            async with turn:
                return await self._renew(row)

        return (await asyncio.gather(*(one(row) for row in rows))).count(True)

    async def _renew(self, row: Warm) -> bool:
        """Those that fail have their own back-off, or an end."""
        try:
            session = await self._grants.obtain(row.id, row.shop, Refresh(over_gen=row.gen))
        except errors.Fault:
            return False
        return session.gen != row.gen
