"""What was asked of all jobs that match is done to them, in bounded steps.

Every process may do it: a step holds its request, and is done once or not at all.
"""

from chassis import lifecycle
from queue_service.core.verbs import Sweeps

AT_ONCE = 20
LOOKED_AT = 1000


class JobSweeper(lifecycle.Loop):
    name = "job_sweeper"
    interval_s = 2.0

    def __init__(self, sweeps: Sweeps) -> None:
        super().__init__()
        self._sweeps = sweeps

    async def run_once(self) -> bool:
        steps = [
            await self._sweeps.step(sweep_id, looked_at=LOOKED_AT)
            for sweep_id in await self._sweeps.open(limit=AT_ONCE)
        ]
        return any(steps)
