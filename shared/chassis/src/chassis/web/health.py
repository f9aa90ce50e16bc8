"""Health: /livez (the loops move), /readyz (this process may get traffic), /healthz (everything).

Handlers never touch a dependency; a loop samples them once a second and the handlers tell what it
last saw, with the time of the sample.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import prometheus_client
from aiohttp import web

from chassis import lifecycle, logs
from chassis.kernel.clock import Clock, SystemClock, rfc3339
from chassis.web import body

log = logs.get(__name__)

# Answers "up", "down" or "absent"; must come back within a second.
Check = Callable[[], Awaitable[str]]
Facts = Callable[[], Mapping[str, Any]]


@dataclass
class Health:
    """What this process knows of itself. `needed` names the checks whose "down" makes it fail."""

    service: str
    version: str
    checks: dict[str, Check] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()
    facts: Facts = dict
    unready_because: Callable[[], str | None] = lambda: None
    seen: dict[str, str] = field(default_factory=dict)
    sampled_at: datetime | None = None
    is_stopping: bool = False
    _serving: bool = False

    def started(self) -> None:
        self._serving = True

    def stopping(self) -> None:
        self._serving = False
        self.is_stopping = True

    @property
    def ready(self) -> bool:
        return self._serving and self.unready_because() is None

    @property
    def status(self) -> str:
        """pass: all is well. warn: it works, degraded. fail: it cannot do its work."""
        down = {name for name, state in self.seen.items() if state == "down"}
        if down & self.needed:
            return "fail"
        return "warn" if down else "pass"

    def report(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "service": self.service,
            "version": self.version,
            "sampled_at": rfc3339(self.sampled_at) if self.sampled_at else None,
            "checks": dict(self.seen),
            **self.facts(),
        }


class HealthSampler(lifecycle.Loop):
    name = "health_sampler"
    interval_s = 1.0

    def __init__(self, health: Health, clock: Clock | None = None) -> None:
        super().__init__()
        self._health = health
        self._clock = clock or SystemClock()

    async def run_once(self) -> bool:
        for name, check in self._health.checks.items():
            self._health.seen[name] = await _asked(name, check)
        self._health.sampled_at = self._clock.now()
        return False


async def _asked(name: str, check: Check) -> str:
    """A check that breaks has seen nothing good, and must not hide what the others saw."""
    try:
        return await check()
    except Exception as error:
        log.error("health_check_broke", check=name, exc_info=error)
        return "down"


HEALTH = web.AppKey("HEALTH", Health)
SUPERVISOR = web.AppKey("SUPERVISOR", lifecycle.Supervisor)
PUBLIC = web.AppKey("PUBLIC", bool)


async def livez(request: web.Request) -> web.Response:
    stalled = _of(request)[SUPERVISOR].stalled()
    status = 503 if stalled else 200
    return body.respond(
        {"status": "fail" if stalled else "pass", "stalled": stalled}, status=status
    )


async def readyz(request: web.Request) -> web.Response:
    health = _of(request)[HEALTH]
    answer = {
        "status": "pass" if health.ready else "fail",
        "degraded": health.status != "pass",
        "reason": health.unready_because(),
    }
    return body.respond(answer, status=200 if health.ready else 503)


async def healthz(request: web.Request) -> web.Response:
    health = _of(request)[HEALTH]
    return body.respond(health.report(), status=503 if health.status == "fail" else 200)


async def exposition(_request: web.Request) -> web.Response:
    return web.Response(
        body=prometheus_client.generate_latest(),
        headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST},
    )


OBSERVED = web.AppKey("OBSERVED", web.Application)
PROBES = [("/livez", livez), ("/readyz", readyz), ("/healthz", healthz)]


def _of(request: web.Request) -> web.Application:
    """The application asked about: our own, or the one whose ops port this is."""
    app: web.Application = request.app.get(OBSERVED, request.app)
    return app


def add_probes(app: web.Application) -> None:
    for path, handler in PROBES:
        app.router.add_get(path, handler)


def ops_app(observed: web.Application) -> web.Application:
    """The second port: health and metrics, never business."""
    app = web.Application()
    app[OBSERVED] = observed
    add_probes(app)
    app.router.add_get("/metrics", exposition)
    return app
