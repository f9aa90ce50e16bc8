"""Batches in the background. The leader of the chores runs these."""

from chassis import lifecycle, logs
from queue_service.core.ports import BatchChores

log = logs.get(__name__)

DELTAS = 20_000
BATCHES = 20
JOBS = 1000


class BatchFolder(lifecycle.Loop):
    """Counters follow what has ended."""

    name = "batch_folder"
    interval_s = 0.5

    def __init__(self, chores: BatchChores) -> None:
        super().__init__()
        self._chores = chores

    async def run_once(self) -> bool:
        return await self._chores.fold(limit=DELTAS) == DELTAS


class BatchFinisher(lifecycle.Loop):
    """A closed batch whose jobs have all ended is finished, once."""

    name = "batch_finisher"
    interval_s = 0.5

    def __init__(self, chores: BatchChores) -> None:
        super().__init__()
        self._chores = chores

    async def run_once(self) -> bool:
        ended = await self._chores.ended(limit=BATCHES)
        for batch_id in ended:
            if await self._chores.finish(batch_id):
                log.info("batch_finished", batch_id=str(batch_id))
        return len(ended) == BATCHES


class BatchSweeper(lifecycle.Loop):
    """What a resumed batch held goes on; what a cancelled one still has is cancelled."""

    name = "batch_sweeper"
    interval_s = 0.5

    def __init__(self, chores: BatchChores) -> None:
        super().__init__()
        self._chores = chores

    async def run_once(self) -> bool:
        freed = [
            await self._chores.free(batch_id, limit=JOBS)
            for batch_id in await self._chores.held(limit=BATCHES)
        ]
        stopped = await self._chores.stopped(limit=JOBS)
        if stopped:
            await self._chores.cancel(stopped)
        return len(stopped) == JOBS or any(jobs == JOBS for jobs in freed)
