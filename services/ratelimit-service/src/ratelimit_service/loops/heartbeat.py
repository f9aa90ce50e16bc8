"""Tells the other replicas what we see, learns who decides, opens Redis when all see it."""

from chassis.lifecycle import Loop
from ratelimit_service.core.switch import Switch

# Three beats in a lease, so that one may be late.
WITH_REDIS_S = 0.25
WITHOUT_REDIS_S = 1.0


class Heartbeat(Loop):
    name = "heartbeat"

    def __init__(self, switch: Switch, *, with_redis: bool) -> None:
        super().__init__()
        self.interval_s = WITH_REDIS_S if with_redis else WITHOUT_REDIS_S
        self._switch = switch

    async def run_once(self) -> bool:
        await self._switch.beat()
        return False
