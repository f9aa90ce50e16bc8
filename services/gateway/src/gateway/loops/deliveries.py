"""Brings accepted jobs to their owner, forgets those that have come there, shows how many wait."""

from contextlib import suppress

from chassis import lifecycle
from chassis.kernel import errors
from gateway import metrics
from gateway.core import ports
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

    def __init__(self, motion: InMotion, *, direct: ports.Direct) -> None:
        super().__init__()
        self._motion = motion
        self._direct = direct

    async def run_once(self) -> bool:
        with suppress(errors.Unavailable):
            await self._motion.forget_arrived(self._direct.has)
        count, age_s = await self._motion.count()
        metrics.SPOOL_WAITING.set(count)
        metrics.SPOOL_AGE_S.set(age_s)
        return False
