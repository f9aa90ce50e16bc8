"""The right to ask Shopify for tokens of one session, over all replicas.

It lasts 6 s and is renewed every 2 s, and before each question it is looked at by a clock that only
grows: a process that was frozen, or that lost the database, stops asking before another begins.
"""

import asyncio
from types import TracebackType
from typing import Self
from uuid import uuid4

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from session_service.core.ports import LeaseStore

LIFE_S = 6.0
RENEW_S = 2.0
RENEW_AGAIN_S = 0.5


class Lease:
    def __init__(self, store: LeaseStore, clock: Clock, session_id: str) -> None:
        self.session_id = session_id
        self.owner = uuid4()
        self._store = store
        self._clock = clock
        self._until = 0.0
        self._renewals: asyncio.Task[None] | None = None

    async def take(self) -> bool:
        asked_at = self._clock.monotonic()
        if not await self._store.take(self.session_id, self.owner, life_s=LIFE_S):
            return False
        self._until = asked_at + LIFE_S
        return True

    def check(self) -> None:
        """Raises Unavailable when somebody else may hold it by now."""
        if self._clock.monotonic() >= self._until:
            raise errors.Unavailable("the right to renew this token was lost", code=IN_PROGRESS)

    async def is_ours(self) -> bool:
        """As the record has it, which knows best."""
        return await self._store.renew(self.session_id, self.owner, life_s=LIFE_S)

    async def __aenter__(self) -> Self:
        self._renewals = asyncio.create_task(self._renew(), name=f"lease:{self.owner}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._renewals is not None:
            self._renewals.cancel()
            await asyncio.wait([self._renewals])
        await self.drop()

    async def drop(self) -> None:
        """It ends by itself, too."""
        self._until = 0.0
        try:
            await self._store.drop(self.session_id, self.owner)
        except errors.Unavailable:
            pass

    async def _renew(self) -> None:
        pause_s = RENEW_S
        while True:
            await asyncio.sleep(pause_s)
            asked_at = self._clock.monotonic()
            try:
                is_ours = await self._store.renew(self.session_id, self.owner, life_s=LIFE_S)
            except errors.Unavailable:
                pause_s = RENEW_AGAIN_S
                continue
            self._until = asked_at + LIFE_S if is_ours else 0.0
            if not is_ours:
                return
            pause_s = RENEW_S


IN_PROGRESS = "refresh_in_progress"
