"""Jobs of dead workers go back, their attempt spent; one that keeps killing workers ends."""

import math
import time

from chassis import lifecycle, logs
from chassis.kernel.clock import Clock
from queue_service import metrics
from queue_service.core.attempts import Ended, Raised, Settlement, Verb, error_of
from queue_service.core.leasing import DEAD_AFTER_S, Orphan, Rescues

log = logs.get(__name__)

CHUNK = 500
POISON_AFTER = 3
# A beat's interval, its time-out, and a little.
STEADY_S = 6.0


class Rescuer(lifecycle.Loop):
    name = "rescuer"
    interval_s = 2.0

    def __init__(self, store: Rescues, *, clock: Clock, dead_after_s: float = DEAD_AFTER_S) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._dead_after_s = dead_after_s
        self._last_pass = time.monotonic()
        self._steady_since = -math.inf

    def _is_steady(self) -> bool:
        """Not while the database has just come back, or our turn: first everybody may beat."""
        now = time.monotonic()
        if now - self._last_pass > 3 * self.interval_s:
            self._steady_since = now
        return now - self._steady_since >= STEADY_S

    async def run_once(self) -> bool:
        buried = await self._store.bury(silent_s=self._dead_after_s) if self._is_steady() else 0
        orphans = await self._store.orphans(CHUNK)
        if orphans:
            # Fenced like any settlement: a worker that comes back in between wins or loses whole.
            await self._store.settle([self._settlement(orphan) for orphan in orphans])
            await self._store.wake([orphan.lane for orphan in orphans])
            metrics.RESCUED.labels("worker_lost").inc(len(orphans))
        if buried or orphans:
            log.warning("rescued", workers=buried, jobs=len(orphans))
        self._last_pass = time.monotonic()
        return len(orphans) == CHUNK

    def _settlement(self, orphan: Orphan) -> Settlement:
        raised = Raised("worker_lost", "the worker died or was cut off", True)
        verb = Verb.LOST
        if orphan.kills + 1 >= POISON_AFTER:
            verb = Verb.FAILED
            raised = Raised("poison", f"{POISON_AFTER} workers died while it ran", False)
        elif orphan.attempt >= orphan.max_attempts:
            verb = Verb.FAILED
        ended = Ended(raised, self._clock.now(), 0.0)
        return Settlement(
            id=orphan.id,
            lease_no=orphan.lease_no,
            verb=verb,
            error=error_of(orphan.attempt, ended, raised),
            unmark=verb is Verb.FAILED,
        )
