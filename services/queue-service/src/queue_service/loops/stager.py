"""What is due becomes ready. Every process may do it; none needs the others."""

from chassis import lifecycle
from queue_service.core.leasing import Stages

CHUNK = 1000


class Stager(lifecycle.Loop):
    name = "stager"

    def __init__(self, store: Stages, *, interval_s: float = 1.0) -> None:
        super().__init__()
        self.interval_s = interval_s
        self._store = store

    async def run_once(self) -> bool:
        return await self._store.stage(CHUNK) == CHUNK
