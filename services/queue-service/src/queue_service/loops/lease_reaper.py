"""Leases that ran out: their jobs are ready again, or over when no attempt is left."""

from chassis import lifecycle, logs
from chassis.kernel.clock import Clock
from queue_service import metrics
from queue_service.core.leases import REMEMBERED_S, Expiries, expiry
from queue_service.core.leasing import Settlements

log = logs.get(__name__)

CHUNK = 500


class LeaseReaper(lifecycle.Loop):
    """Every api process may do it; each expiry is fenced like any settlement."""

    name = "lease_reaper"
    interval_s = 0.8

    def __init__(self, leases: Expiries, engine: Settlements, *, clock: Clock) -> None:
        super().__init__()
        self._leases = leases
        self._engine = engine
        self._clock = clock

    async def run_once(self) -> bool:
        expired = await self._leases.expired(CHUNK)
        if expired:
            now = self._clock.now()
            await self._engine.settle([expiry(one, now) for one in expired])
            await self._engine.wake([one.lane for one in expired])
            metrics.RESCUED.labels("lease_expired").inc(len(expired))
            log.warning("leases_expired", jobs=len(expired))
        return len(expired) == CHUNK


class LeaseCallSweeper(lifecycle.Loop):
    """Calls that nobody can repeat any more. One of the chores."""

    name = "lease_calls"
    interval_s = 60.0

    def __init__(self, leases: Expiries) -> None:
        super().__init__()
        self._leases = leases

    async def run_once(self) -> bool:
        await self._leases.forget_calls(older_than_s=2 * REMEMBERED_S)
        return False
