"""What admission does aside: learn the policies, give leases back, return to the limiter."""

from chassis import lifecycle
from chassis.kernel import errors
from gateway import metrics
from gateway.core.admission import Admission


class PolicySync(lifecycle.Loop):
    name = "policy_sync"
    interval_s = 5.0

    def __init__(self, admission: Admission) -> None:
        super().__init__()
        self._admission = admission

    async def run_once(self) -> bool:
        try:
            await self._admission.refresh()
        except errors.Fault:
            pass  # what we knew stays; the circuit and /v1/system tell of it
        return False


class LeaseSweep(lifecycle.Loop):
    name = "lease_sweep"
    interval_s = 0.25

    def __init__(self, admission: Admission) -> None:
        super().__init__()
        self._admission = admission

    async def run_once(self) -> bool:
        self._admission.leases.sweep()
        metrics.show_limits(
            keys=len(self._admission),
            leased=self._admission.leases.tokens,
            is_local=self._admission.absence.is_on,
        )
        return False


class LimiterReturn(lifecycle.Loop):
    """Woken when the limiter goes away."""

    name = "limiter_return"
    interval_s = 0.25

    def __init__(self, admission: Admission) -> None:
        super().__init__()
        self._admission = admission
        admission.absence.began = self.wake

    async def run_once(self) -> bool:
        await self._admission.come_back()
        return False
