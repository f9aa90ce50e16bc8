"""Every metric of the gateway."""

from collections.abc import Iterable
from functools import cache

from prometheus_client import Counter, Gauge

from chassis import logs
from chassis.kernel import breaker
from gateway.core.enqueue import Outcome

log = logs.get(__name__)

ACCEPTS = Counter("gateway_accepts_total", "Jobs accepted, by road", ["road"])
FALLBACKS = Counter(
    "gateway_fallback_total", "Times another way was taken, and why", ["kind", "reason"]
)
CIRCUIT = Gauge(
    "gateway_upstream_circuit_state", "1 for the state the circuit is in", ["upstream", "state"]
)
CACHE = Counter("gateway_cache_requests_total", "Cacheable requests", ["backend", "result"])
ADMISSIONS = Counter("gateway_admissions_total", "Admission decisions", ["backend", "outcome"])
AUTH_FAILURES = Counter("gateway_auth_failures_total", "Requests without a good key", ["reason"])
DISAGREEMENTS = Counter(
    "gateway_health_disagreement_total",
    "Probes that called a service down while its traffic succeeded",
    ["upstream"],
)
SPOOL_WAITING = Gauge("gateway_accepted_waiting", "Accepted jobs that their owner does not have")
SPOOL_AGE_S = Gauge("gateway_accepted_oldest_age_seconds", "Age of the oldest of them")


_accepts = cache(ACCEPTS.labels)
_admissions = cache(ADMISSIONS.labels)


def show_circuit(upstream: str, state: breaker.State) -> None:
    for each in breaker.State:
        CIRCUIT.labels(upstream, each).set(1 if each is state else 0)


def circuit_changed(upstream: str, state: breaker.State) -> None:
    log.warning("circuit_changed", upstream=upstream, state=state)
    show_circuit(upstream, state)


def accepted(outcomes: Iterable[Outcome]) -> None:
    """Count those that are new."""
    for outcome in outcomes:
        if outcome.status in ("created", "accepted"):
            _accepts(outcome.road).inc()


def fell_back(kind: str, reason: str) -> None:
    FALLBACKS.labels(kind, reason).inc()


def cache_counted(backend: str, result: str) -> None:
    CACHE.labels(backend, result).inc()


def admission_counted(backend: str, outcome: str) -> None:
    _admissions(backend, outcome).inc()
