"""Brings accepted jobs to their owner, and shows how many wait."""

from chassis import lifecycle
from gateway import metrics
from gateway.core.forward import Forward
from gateway.core.in_motion import InMotion


class Deliveries(lifecycle.Loop):
    name = "deliveries"
    interval_s = 0.5

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self._forward = forward

    async def run_once(self) -> bool:
        return await self._forward()


class Waiting(lifecycle.Loop):
    name = "accepted_waiting"
    interval_s = 5.0

    def __init__(self, motion: InMotion) -> None:
        super().__init__()
        self._motion = motion

    async def run_once(self) -> bool:
        count, age_s = await self._motion.count()
        metrics.SPOOL_WAITING.set(count)
        metrics.SPOOL_AGE_S.set(age_s)
        return False
