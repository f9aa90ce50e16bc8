"""The state of the whole, as the last look at everything saw it: what /v1/system tells.

A service that once does not answer may just be busy: two looks in a row make it down.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chassis.kernel import breaker
from chassis.kernel.clock import Clock, rfc3339

QUEUE, WORKER = "queue-service", "queue-worker"
SESSION, RATELIMIT = "session-service", "ratelimit-service"
GATEWAY = "gateway"
DEPENDENCIES = ("postgres", "redis", "rabbitmq")
STATUSES = {"pass": "up", "warn": "degraded", "fail": "down"}
# After an outage callers go straight again as soon as the trials were good.
PASSING = (breaker.State.CLOSED, breaker.State.RECOVERING)
MISSES_TO_DOWN = 2
STALE_S = 5.0


@dataclass(slots=True)
class _Seen:
    status: str
    since: datetime
    report: Mapping[str, Any] = field(default_factory=dict)
    misses: int = 0


class System:
    """`own` is this gateway's own health report; `bus_is_up` that of road 2; `cache` the backend
    that keeps answers now; `limits_alone`: this gateway limits without the service."""

    def __init__(
        self,
        *,
        circuits: Mapping[str, breaker.Breaker],
        own: Callable[[], Mapping[str, Any]],
        bus_is_up: Callable[[], bool],
        cache: Callable[[], str],
        limits_alone: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._circuits = circuits
        self._own = own
        self._bus_is_up = bus_is_up
        self._cache = cache
        self._limits_alone = limits_alone
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._sampled_at: datetime | None = None

    def saw(self, name: str, report: Mapping[str, Any] | None) -> None:
        """What a look at a service's /healthz brought; None: no answer, or an old one."""
        now = self._clock.now()
        seen = self._seen.setdefault(name, _Seen(status="down", since=now))
        if report is None:
            seen.misses += 1
            if seen.misses < MISSES_TO_DOWN:
                return
            status, report = "down", {}
        else:
            seen.misses = 0
            status = STATUSES.get(str(report.get("status")), "down")
        if status != seen.status:
            seen.status, seen.since = status, now
        seen.report = report

    def signals(self, name: str) -> dict[str, str | None]:
        """What probes say of a service, for who judges its circuit."""
        seen = self._seen.get(name)
        if seen is None:
            return {"probe": None, "declared": None}
        declared = seen.report.get("status")
        return {
            "probe": "down" if seen.misses else "up",
            "declared": str(declared) if declared is not None else None,
        }

    def sampled(self) -> None:
        own = self._own()
        self.saw(GATEWAY, own)
        self._sampled_at = self._clock.now()

    def tell(self) -> dict[str, Any]:
        services = {name: self._service(name) for name in sorted(self._seen)}
        roads = self._roads()
        dependencies = {name: self._dependency(name) for name in DEPENDENCIES}
        return {
            "services": services,
            "roads": roads,
            "dependencies": dependencies,
            "degraded": self._is_degraded(roads, dependencies),
            "can": self._can(roads),
            "horizon": self._said(QUEUE, "horizon") or None,
            "sampled_at": rfc3339(self._sampled_at) if self._sampled_at else None,
        }

    def _service(self, name: str) -> dict[str, Any]:
        seen, circuit = self._seen[name], self._circuits.get(name)
        return {
            "status": seen.status,
            "circuit": str(circuit.state) if circuit else None,
            "since": rfc3339(seen.since),
        }

    def _limits(self) -> str:
        if self._limits_alone() or not self._is_open(RATELIMIT):
            return "local"
        return str(self._said(RATELIMIT, "limits") or "local")

    def _roads(self) -> dict[str, str]:
        return {
            "enqueue": self._enqueue(),
            "dispatch": str(self._said(QUEUE, "dispatch") or "postgres"),
            "limits": self._limits(),
            "sessions": "direct" if self._is_open(SESSION) else "shut",
            "cache": self._cache(),
        }

    def _enqueue(self) -> str:
        if self._is_open(QUEUE):
            return "direct"
        if self._bus_is_up():
            return "bus"
        return "shut" if self._check(GATEWAY, "postgres") == "down" else "spool"

    def _is_open(self, name: str) -> bool:
        is_up = self._seen[name].status != "down" if name in self._seen else False
        circuit = self._circuits.get(name)
        return is_up and (circuit is None or circuit.state in PASSING)

    def _said(self, name: str, fact: str) -> Any:
        return self._seen[name].report.get(fact) if name in self._seen else None

    def _check(self, name: str, dependency: str) -> str | None:
        checks = self._said(name, "checks")
        found: str | None = checks.get(dependency) if isinstance(checks, Mapping) else None
        return found

    def _dependency(self, dependency: str) -> str:
        """Down when one of those who use it says so, absent when nobody has it."""
        said = {self._check(name, dependency) for name in self._seen}
        if "down" in said:
            return "down"
        return "up" if "up" in said else "absent"

    def _is_degraded(self, roads: Mapping[str, str], dependencies: Mapping[str, str]) -> bool:
        return (
            any(seen.status != "up" for seen in self._seen.values())
            or roads["enqueue"] != "direct"
            or roads["limits"] == "local"
            or roads["sessions"] != "direct"
            or "down" in dependencies.values()
        )

    def _can(self, roads: Mapping[str, str]) -> list[str]:
        worker_up = WORKER in self._seen and self._seen[WORKER].status != "down"
        owner_open = self._is_open(QUEUE)
        possible = [
            ("enqueue jobs", roads["enqueue"] == "direct"),
            (
                "enqueue jobs: kept now, run once queue-service is back",
                roads["enqueue"] in ("bus", "spool"),
            ),
            ("read and change jobs, queues and batches", owner_open),
            ("upload batches", owner_open),
            ("have their jobs run", worker_up),
            ("load and store sessions", roads["sessions"] == "direct"),
            ("be limited as their policies say", roads["limits"] != "local"),
            ("be limited approximately, by each gateway alone", roads["limits"] == "local"),
        ]
        return [what for what, is_so in possible if is_so]


def is_fresh(report: Mapping[str, Any], now: datetime) -> bool:
    """A report that nobody has renewed for seconds says nothing about now."""
    try:
        sampled_at = datetime.fromisoformat(str(report["sampled_at"]))
    except (KeyError, ValueError):
        return False
    return now - sampled_at <= timedelta(seconds=STALE_S)
