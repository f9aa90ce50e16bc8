"""How deep the queues are, for the metrics."""

from chassis import lifecycle
from queue_service import metrics
from queue_service.core.ports import Depths


class DepthSampler(lifecycle.Loop):
    name = "depth_sampler"
    interval_s = 5.0

    def __init__(self, queues: Depths) -> None:
        super().__init__()
        self._queues = queues

    async def run_once(self) -> bool:
        depths = await self._queues.depths()
        metrics.JOBS.clear()
        metrics.OLDEST_READY_AGE_S.clear()
        for one in depths:
            metrics.JOBS.labels(one.queue, one.state).set(one.jobs)
            if one.oldest_ready_age_s is not None:
                metrics.OLDEST_READY_AGE_S.labels(one.queue).set(one.oldest_ready_age_s)
        return False
