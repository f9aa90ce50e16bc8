"""Wakes lanes that sleep over ready jobs: whoever should have woken them died in between."""

import time

from chassis import lifecycle
from queue_service.core.leasing import Sleepers

SLICE = 2000
EVERY_S = 1.0
# While an old snapshot keeps dead entries alive a look is dear: this part of the time, at most.
SHARE = 0.05


class Reconciler(lifecycle.Loop):
    """A slice of the sleeping lanes at a time; lanes that are awake cost nothing."""

    name = "reconciler"
    interval_s = EVERY_S

    def __init__(self, store: Sleepers) -> None:
        super().__init__()
        self._store = store
        self._after = 0

    async def run_once(self) -> bool:
        began = time.monotonic()
        self._after = await self._store.wake_sleepers(after=self._after, limit=SLICE)
        rest_s = (time.monotonic() - began) * (1 / SHARE - 1)
        self.interval_s = max(EVERY_S, rest_s)
        return self._after > 0 and rest_s < EVERY_S
