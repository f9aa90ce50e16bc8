"""A look at every service each second: for /v1/system, and for the circuits.

A service that does not answer three looks in a row loses its circuit, unless real traffic says
otherwise; a good look ends a hold early and stands for one of the trials, so that a service which
nobody calls also comes back.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from chassis import lifecycle
from chassis.kernel import breaker
from chassis.kernel.clock import Clock
from gateway import metrics
from gateway.core import system

MISSES_TO_OPEN = 3

Look = Callable[[], Awaitable[Mapping[str, Any] | None]]


class Circuited(Protocol):
    """A service that real traffic goes to."""

    name: str
    circuit: breaker.Breaker

    @property
    def succeeds(self) -> bool: ...


class Probes(lifecycle.Loop):
    name = "probes"
    interval_s = 1.0

    def __init__(
        self,
        *,
        looks: Mapping[str, Look],
        upstreams: Mapping[str, Circuited],
        seen: system.System,
        clock: Clock,
    ) -> None:
        super().__init__()
        self._looks = looks
        self._upstreams = upstreams
        self._seen = seen
        self._clock = clock
        self._misses: Counter[str] = Counter()

    async def run_once(self) -> bool:
        reports = await asyncio.gather(*(look() for look in self._looks.values()))
        for name, report in zip(self._looks, reports, strict=True):
            good = report if report and system.is_fresh(report, self._clock.now()) else None
            self._seen.saw(name, good)
            if name in self._upstreams:
                self._judge(self._upstreams[name], is_good=_is_alive(good))
        self._seen.sampled()
        return False

    def _judge(self, upstream: Circuited, *, is_good: bool) -> None:
        circuit = upstream.circuit
        if is_good:
            self._misses[upstream.name] = 0
            circuit.invite()
            if circuit.state is breaker.State.HALF_OPEN:
                ticket = circuit.admit()
                if ticket is not None:
                    circuit.success(ticket)
            return
        self._misses[upstream.name] += 1
        if self._misses[upstream.name] < MISSES_TO_OPEN:
            return
        if upstream.succeeds:
            metrics.DISAGREEMENTS.labels(upstream.name).inc()
        else:
            circuit.force_open()


def _is_alive(report: Mapping[str, Any] | None) -> bool:
    return report is not None and report.get("status") in ("pass", "warn")
