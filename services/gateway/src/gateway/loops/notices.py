"""Tells owners what they have not heard yet, and shows how much that is."""

from chassis import lifecycle
from gateway import metrics
from gateway.core.notices import Retell


class NoticesLoop(lifecycle.Loop):
    name = "notices"
    interval_s = 1.0

    def __init__(self, retell: Retell) -> None:
        super().__init__()
        self._retell = retell

    async def run_once(self) -> bool:
        count, age_s = await self._retell.count()
        metrics.NOTICES_WAITING.set(count)
        metrics.NOTICES_AGE_S.set(age_s)
        return bool(count) and await self._retell()
