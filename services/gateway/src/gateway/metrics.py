"""Every metric of the gateway."""

from collections.abc import Iterable
from functools import cache

from prometheus_client import Counter, Gauge

from chassis import logs
from chassis.kernel import breaker
from contracts.gateway import CircuitMode
from gateway.core.enqueue import Outcome

log = logs.get(__name__)

ACCEPTS = Counter("gateway_accepts_total", "Jobs accepted, by road", ["road"])
FALLBACKS = Counter(
    "gateway_fallback_total", "Times another way was taken, and why", ["kind", "reason"]
)
CIRCUIT = Gauge(
    "gateway_upstream_circuit_state", "1 for the state the circuit is in", ["upstream", "state"]
)
CIRCUIT_OVERRIDE = Gauge(
    "gateway_circuit_override",
    "1 for what operators have said of the circuit",
    ["upstream", "mode"],
)
CACHE = Counter("gateway_cache_requests_total", "Cacheable requests", ["backend", "result"])
ADMISSIONS = Counter(
    "gateway_admissions_total",
    "Admission decisions by what they came by: service, lease, denial (a moment ago), local",
    ["backend", "outcome"],
)
LIMIT_TOKENS = Counter(
    "gateway_limit_tokens_total",
    "Tokens leased, returned, debited (given out alone, told of), lost (told of in vain)",
    ["what"],
)
LIMIT_LEASED = Gauge("gateway_limit_leased", "Tokens of leases that are held")
LIMIT_KEYS = Gauge("gateway_limit_keys", "Keys that admission remembers")
LIMIT_LOCAL = Gauge("gateway_limit_local", "1 while admission decides without ratelimit-service")
AUTH_FAILURES = Counter("gateway_auth_failures_total", "Requests without a good key", ["reason"])
DISAGREEMENTS = Counter(
    "gateway_health_disagreement_total",
    "Probes that called a service down while its traffic succeeded, or up while it failed",
    ["upstream", "probe"],
)
SPOOL_WAITING = Gauge("gateway_accepted_waiting", "Accepted jobs that their owner does not have")
SPOOL_AGE_S = Gauge("gateway_accepted_oldest_age_seconds", "Age of the oldest of them")

WEBHOOKS = Counter(
    "gateway_webhooks_total",
    "Webhooks of Shopify: created, existing, accepted, refused (not theirs), limited, failed",
    ["outcome"],
)
NOTICES_WAITING = Gauge("gateway_notices_waiting", "What owners must still hear of shops")
NOTICES_AGE_S = Gauge("gateway_notices_oldest_age_seconds", "Age of the oldest of that")


_accepts = cache(ACCEPTS.labels)
_admissions = cache(ADMISSIONS.labels)
_limit_tokens = cache(LIMIT_TOKENS.labels)


def show_circuit(upstream: str, state: breaker.State) -> None:
    for each in breaker.State:
        CIRCUIT.labels(upstream, each).set(1 if each is state else 0)


def show_override(upstream: str, mode: CircuitMode) -> None:
    for each in CircuitMode:
        CIRCUIT_OVERRIDE.labels(upstream, each).set(1 if each is mode else 0)


def circuit_changed(circuit: breaker.Breaker, state: breaker.State) -> None:
    log.warning("circuit_changed", upstream=circuit.name, state=state, why=circuit.why)
    show_circuit(circuit.name, state)


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


def limit_tokens_moved(what: str, tokens: int) -> None:
    _limit_tokens(what).inc(tokens)


def show_limits(*, keys: int, leased: int, is_local: bool) -> None:
    LIMIT_KEYS.set(keys)
    LIMIT_LEASED.set(leased)
    LIMIT_LOCAL.set(is_local)
