"""A look at every service each second: for /v1/system, and for the circuits.

A service that does not answer three of the last five looks loses its circuit, unless real traffic
says otherwise. The good look after a bad one ends a hold early; one that has been good all along
does not, for it says what the calls that opened the circuit do not. A good look stands for one of
the trials, so that a service which nobody calls also comes back.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from chassis import lifecycle
from chassis.kernel import breaker
from chassis.kernel.clock import Clock
from gateway import metrics
from gateway.core import system

# From look to look: three of them and the time-out of the last are a death within 3.5 s.
PERIOD_S = 0.8
LEAST_PAUSE_S = 0.1
MISSES_TO_OPEN = 3
OF_LOOKS = 5

Look = Callable[[], Awaitable[Mapping[str, Any] | None]]


class Circuited(Protocol):
    """A service that real traffic goes to."""

    name: str
    circuit: breaker.Breaker

    @property
    def succeeds(self) -> bool: ...


class Probes(lifecycle.Loop):
    name = "probes"
    interval_s = PERIOD_S

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
        self._last: dict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=OF_LOOKS))

    async def run_once(self) -> bool:
        started = time.monotonic()
        reports = await asyncio.gather(*(look() for look in self._looks.values()))
        for name, report in zip(self._looks, reports, strict=True):
            good = report if report and system.is_fresh(report, self._clock.now()) else None
            self._seen.saw(name, good)
            if name in self._upstreams:
                self._judge(self._upstreams[name], is_good=_is_alive(good))
        self._seen.sampled()
        self.interval_s = max(LEAST_PAUSE_S, PERIOD_S - (time.monotonic() - started))
        return False

    def _judge(self, upstream: Circuited, *, is_good: bool) -> None:
        last = self._last[upstream.name]
        is_back = is_good and False in list(last)[-1:]
        last.append(is_good)
        if is_good:
            self._try(upstream, is_back=is_back)
        elif last.count(False) >= MISSES_TO_OPEN:
            self._give_up(upstream)

    def _try(self, upstream: Circuited, *, is_back: bool) -> None:
        circuit = upstream.circuit
        if is_back:
            circuit.invite()
        if circuit.state is breaker.State.OPEN and circuit.why is breaker.Why.TRAFFIC:
            metrics.DISAGREEMENTS.labels(upstream.name, "up").inc()
        if circuit.state is breaker.State.HALF_OPEN:
            ticket = circuit.admit()
            if ticket is not None:
                circuit.success(ticket)

    def _give_up(self, upstream: Circuited) -> None:
        if upstream.succeeds:
            metrics.DISAGREEMENTS.labels(upstream.name, "down").inc()
            return
        circuit = upstream.circuit
        if circuit.state is not breaker.State.OPEN:
            circuit.force_open()


def _is_alive(report: Mapping[str, Any] | None) -> bool:
    return report is not None and report.get("status") in ("pass", "warn")
