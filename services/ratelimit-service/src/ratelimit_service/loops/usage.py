"""Brings what was counted of shops to the database, and removes it there when its time is over."""

from typing import Protocol

from chassis.lifecycle import Loop
from ratelimit_service import metrics
from ratelimit_service.core.usage import Usage


class Expiring(Protocol):
    async def expire(self, *, hours: int) -> bool: ...


class UsageFlush(Loop):
    name = "usage_flush"
    interval_s = 10.0

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self._usage = usage

    async def run_once(self) -> bool:
        metrics.USAGE_ROWS.set(self._usage.waiting)
        await self._usage.flush()
        metrics.USAGE_ROWS.set(self._usage.waiting)
        return False


class UsageExpiry(Loop):
    """Every replica does it: what one is removing, another leaves alone."""

    name = "usage_expiry"
    interval_s = 60.0

    def __init__(self, store: Expiring, *, hours: int) -> None:
        super().__init__()
        self._store = store
        self._hours = hours

    async def run_once(self) -> bool:
        return await self._store.expire(hours=self._hours)
