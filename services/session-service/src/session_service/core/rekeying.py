"""Sealing every row anew under the current key, while rows are read and written.

Neither `gen` nor `version` moves: nobody's decision is undone by it. A row that somebody writes
meanwhile is sealed by that writer under a key of theirs, and looked at again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from session_service.core.ports import KeyStore
from session_service.core.sealing import Parts, Vault

CHUNK = 200
MAX_TRIES = 5
WORK_S = 40.0


@dataclass(slots=True)
class Outcome:
    """Rows sealed anew, rows left for the next run, rows that no key of ours opens."""

    rekeyed: int = 0
    left: int = 0
    unreadable: int = 0


class Rekeying:
    def __init__(self, *, store: KeyStore, vault: Vault, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._clock = clock

    async def run(self) -> Outcome:
        """As far as it comes in `WORK_S`; the next run goes on from there."""
        key_id, ends_at = self._vault.key_id, self._clock.monotonic() + WORK_S
        outcome, after = Outcome(), ""
        while rows := await self._store.under_others(key_id, after=after, limit=CHUNK):
            await self._reseal(rows, outcome)
            after = rows[-1].id
            if self._clock.monotonic() >= ends_at:
                outcome.left += await self._store.count_under_others(key_id, after=after)
                break
        return outcome

    async def _reseal(self, rows: Sequence[Parts], outcome: Outcome) -> None:
        for _ in range(MAX_TRIES):
            anew = self._resealed(rows, outcome)
            outcome.rekeyed += (done := await self._store.reseal(anew))
            if done == len(anew):
                return
            rows = await self._store.again([row.id for row in anew], self._vault.key_id)
        outcome.left += len(rows)

    def _resealed(self, rows: Sequence[Parts], outcome: Outcome) -> list[Parts]:
        anew = []
        for row in rows:
            try:
                anew.append(self._vault.reseal(row))
            except errors.Broken:
                outcome.unreadable += 1
        return anew
