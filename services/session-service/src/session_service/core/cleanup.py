"""Removing sessions none of whose tokens can ever work again.

Once an hour for all replicas together: the hour is claimed in the database, so that restarts
neither skip nor repeat it, and what a dead replica left unfinished is taken up.
"""

from session_service.core.audit import HistoryStore
from session_service.core.copying import Copying
from session_service.core.ports import RunStore, SessionStore, StateStore

NAME = "cleanup"
PERIOD_S = 3600.0
STUCK_S = 300.0
CHUNK = 1000
HISTORY_DAYS = 90


class Cleanup:
    def __init__(
        self,
        *,
        store: SessionStore,
        history: HistoryStore,
        states: StateStore,
        runs: RunStore,
        copies: Copying,
        grace_s: float,
    ) -> None:
        self._store = store
        self._history = history
        self._states = states
        self._runs = runs
        self._copies = copies
        self._grace_s = grace_s

    async def when_due(self) -> int | None:
        """How many were removed; None when it is not our turn."""
        if not await self._runs.claim(NAME, period_s=PERIOD_S, stuck_s=STUCK_S):
            return None
        return await self.now()

    async def now(self) -> int:
        removed = 0
        while True:
            gone = await self._store.delete_ended(grace_s=self._grace_s, limit=CHUNK)
            await self._copies.forget(gone)
            removed += len(gone)
            if len(gone) < CHUNK:
                break
        while await self._history.delete_old(days=HISTORY_DAYS, limit=CHUNK) == CHUNK:
            pass
        while await self._states.delete_ended(limit=CHUNK) == CHUNK:
            pass
        await self._runs.finish(NAME, handled=removed)
        return removed
