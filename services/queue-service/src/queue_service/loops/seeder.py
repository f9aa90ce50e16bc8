"""The queues that exist from the start: made as soon as the database answers."""

from collections.abc import Sequence

from chassis import lifecycle, logs
from queue_service.core.ports import Queue, Seeds

log = logs.get(__name__)


class Seeder(lifecycle.Loop):
    """Rests once it has done its work: a queue that somebody deletes stays deleted."""

    name = "seeder"
    interval_s = 5.0

    def __init__(self, queues: Seeds, seeds: Sequence[Queue]) -> None:
        super().__init__()
        self._queues = queues
        self._seeds = seeds
        self.is_done = False

    async def run_once(self) -> bool:
        if not self.is_done:
            for seed in self._seeds:
                if await self._queues.create(seed):
                    log.info("queue_seeded", queue=seed.name)
            self.is_done = True
        return False
