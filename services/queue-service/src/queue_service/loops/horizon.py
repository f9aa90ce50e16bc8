"""The guard of the horizon: names who keeps dead rows from being cleaned up, before it hurts.

Tables whose rows come and go all the time are quick while what is dead in them goes soon. One
transaction left open keeps all of it.
"""

import time
from collections.abc import Mapping
from typing import Any, Protocol

from chassis import lifecycle, logs
from queue_service import metrics
from queue_service.core.ports import Holder

log = logs.get(__name__)

WARN_AFTER_S = 60.0
# Told anew so often while it lasts.
TELL_EVERY_S = 60.0


class Horizon(Protocol):
    async def oldest(self) -> Holder | None: ...


class HorizonGuard(lifecycle.Loop):
    name = "horizon_guard"
    interval_s = 5.0

    def __init__(self, horizon: Horizon, *, warn_after_s: float = WARN_AFTER_S) -> None:
        super().__init__()
        self._horizon = horizon
        self._warn_after_s = warn_after_s
        self._holder: Holder | None = None
        self._since = 0.0
        self._age_s = 0.0
        self._told_at = float("-inf")

    async def run_once(self) -> bool:
        found, now = await self._horizon.oldest(), time.monotonic()
        if found is None or self._holder is None or found.name != self._holder.name:
            self._since = now
        self._holder = found
        # A stranger's transaction does not say when it began: then from when it was first seen.
        seen_s = now - self._since
        self._age_s = 0.0 if found is None else seen_s if found.age_s is None else found.age_s
        metrics.HORIZON_AGE_S.set(self._age_s)
        metrics.HORIZON_TRANSACTIONS.set(0 if found is None else found.transactions)
        if self._is_late and now - self._told_at >= TELL_EVERY_S:
            self._told_at = now
            log.warning("horizon_held", **self.facts())
        return False

    @property
    def _is_late(self) -> bool:
        return self._age_s >= self._warn_after_s

    def facts(self) -> Mapping[str, Any]:
        """Who holds it, once that is worth a word."""
        if self._holder is None or not self._is_late:
            return {}
        return {
            "holder": self._holder.holder,
            "name": self._holder.key,
            "age_s": round(self._age_s),
            "transactions": self._holder.transactions,
        }
