"""How deep the queues are, for the metrics."""

import time

from chassis import lifecycle
from queue_service import metrics
from queue_service.core.ports import Depths

INTERVAL_S = 2.0
# It takes no more than this share of one of the database's processors.
SHARE = 1 / 40


class DepthSampler(lifecycle.Loop):
    name = "depth_sampler"
    interval_s = INTERVAL_S

    def __init__(self, queues: Depths) -> None:
        super().__init__()
        self._queues = queues

    async def run_once(self) -> bool:
        began = time.monotonic()
        depths = await self._queues.depths()
        self.interval_s = max(INTERVAL_S, (time.monotonic() - began) / SHARE)
        metrics.JOBS.clear()
        metrics.OLDEST_READY_AGE_S.clear()
        for one in depths:
            metrics.JOBS.labels(one.queue, one.state).set(one.jobs)
            if one.oldest_ready_age_s is not None:
                metrics.OLDEST_READY_AGE_S.labels(one.queue).set(one.oldest_ready_age_s)
        return False
