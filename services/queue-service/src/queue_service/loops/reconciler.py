"""Wakes lanes that sleep over ready jobs: whoever should have woken them died in between."""

from chassis import lifecycle
from queue_service.core.leasing import Sleepers

SLICE = 2000


class Reconciler(lifecycle.Loop):
    """A slice of the sleeping lanes at a time; lanes that are awake cost nothing."""

    name = "reconciler"
    interval_s = 1.0

    def __init__(self, store: Sleepers) -> None:
        super().__init__()
        self._store = store
        self._after = 0

    async def run_once(self) -> bool:
        lanes = await self._store.sleeping(after=self._after, limit=SLICE)
        self._after = lanes[-1] if len(lanes) == SLICE else 0
        await self._store.wake(lanes)
        return self._after > 0
