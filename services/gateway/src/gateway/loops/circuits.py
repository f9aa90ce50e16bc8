"""Keeps circuits to what operators have said, and tells what becomes of them."""

from chassis import lifecycle
from gateway import metrics
from gateway.core.circuits import Circuits


class CircuitSync(lifecycle.Loop):
    """Woken by every change, here or elsewhere; the interval is for what nobody told us of."""

    name = "circuit_sync"
    interval_s = 2.0

    def __init__(self, circuits: Circuits) -> None:
        super().__init__()
        self._circuits = circuits
        circuits.has_news = self.wake

    async def run_once(self) -> bool:
        await self._circuits.tell_others()
        await self._circuits.refresh()
        for upstream, mode in self._circuits.modes().items():
            metrics.show_override(upstream, mode)
        return False
