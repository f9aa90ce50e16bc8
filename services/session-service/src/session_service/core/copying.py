"""Copies of sessions for the time in which the record does not answer.

A copy is five minutes old at most, never that of a revoked session, and sealed as a whole: who
keeps it can neither read nor alter it, and what they give back of yesterday is refused by its date.
"""

from collections.abc import Sequence

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from session_service.core.ports import Copies, Gone
from session_service.core.record import ShopifySession, Status
from session_service.core.sealing import Sealed, Vault

LIFE_MS = 300_000


class Copying:
    def __init__(self, *, copies: Copies, vault: Vault, clock: Clock) -> None:
        self._copies = copies
        self._vault = vault
        self._clock = clock

    async def seen(self, rows: Sequence[Sealed]) -> None:
        """Rows as they were read."""
        if rows and self._copies.is_present:
            await self._copies.keep(self._copied(rows))

    async def changed(self, row: Sealed) -> None:
        """A row as it was written: copies of what it was before must go."""
        if not self._copies.is_present:
            return
        copied = self._copied([row])
        if not copied or not await self._copies.keep(copied):
            await self._copies.forget([Gone(row.id, row.version)])

    async def find(self, session_id: str) -> tuple[ShopifySession, int] | None:
        """(session, its age in seconds). None also when its token has ended: the record may hold
        a newer one."""
        text = await self._copies.find(session_id)
        if text is None:
            return None
        try:
            session, at_ms = self._vault.open_copy(session_id, text)
        except errors.Broken:
            return None
        now = now_ms(self._clock)
        if now - at_ms > LIFE_MS or session.tokens.has_ended(now):
            return None
        return session, max(0, now - at_ms) // 1000

    async def forget(self, gone: Sequence[Gone]) -> None:
        if gone and self._copies.is_present:
            await self._copies.forget(gone)

    def _copied(self, rows: Sequence[Sealed]) -> list[tuple[str, int, str]]:
        at_ms = now_ms(self._clock)
        return [
            (row.id, row.version, self._vault.copy(row, at_ms=at_ms))
            for row in rows
            if row.status != Status.REVOKED
        ]


def now_ms(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1000)
