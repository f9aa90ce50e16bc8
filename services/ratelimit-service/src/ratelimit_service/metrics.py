"""Every metric of ratelimit-service. The label `policy` holds ids of policies that exist."""

from prometheus_client import Counter, Gauge

from chassis.metrics import LoopCounter
from contracts.ratelimits import Backend

DECISIONS = LoopCounter(
    "ratelimit_decisions_total",
    "Limits judged: allowed, denied, or shadow_denied (would have been)",
    ["policy", "outcome", "backend"],
)
DENIALS_CACHED = Counter(
    "ratelimit_denials_cached_total", "Checks refused by what a store said a moment ago"
)
SWITCHES = Counter(
    "ratelimit_backend_switches_total", "Times another backend began to decide", ["from", "to"]
)
BACKEND = Gauge("ratelimit_backend", "1 for the backend that decides", ["backend"])
UNSYNCED = Gauge(
    "ratelimit_unsynced_keys", "Keys of which Postgres does not know the last spending"
)
POLICIES_LOADED = Gauge(
    "ratelimit_policies_loaded", "1 once the policies of the database are in force"
)


def show_backend(now: Backend) -> None:
    for each in Backend:
        BACKEND.labels(each).set(1 if each is now else 0)


def count_switch(old: Backend, new: Backend) -> None:
    SWITCHES.labels(old, new).inc()
    show_backend(new)
