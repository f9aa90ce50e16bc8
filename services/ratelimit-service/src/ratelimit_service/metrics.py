"""Every metric of ratelimit-service. The label `policy` holds ids of policies that exist."""

from prometheus_client import Counter, Gauge

from chassis.metrics import LoopCounter, LoopHistogram
from contracts.ratelimits import Backend, ListKind

DECISIONS = LoopCounter(
    "ratelimit_decisions_total",
    "Limits judged: allowed, denied, or shadow_denied (would have been)",
    ["policy", "outcome", "backend"],
)
NEAR_LIMIT = LoopCounter(
    "ratelimit_near_limit_total",
    "Passed checks that left a limit with more than 0.8 of what it holds used",
    ["policy"],
)
# A local decision takes microseconds, one of a store about a millisecond.
LATENCIES_S = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
DECISION_S = LoopHistogram(
    "ratelimit_decision_seconds",
    "From a check that was understood to its decision, by who decided",
    "backend",
    buckets=LATENCIES_S,
)
STORE_S = LoopHistogram(
    "ratelimit_store_call_seconds",
    "One call that decides a batch, answered or not",
    "backend",
    buckets=LATENCIES_S,
)
BATCH_LIMITS = LoopHistogram(
    "ratelimit_batch_limits",
    "Limits in one call that decides a batch",
    "backend",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
)
LISTED = LoopCounter("ratelimit_listed_total", "Checks that a list decided, and no limit", ["list"])
ADJUSTMENTS = LoopCounter(
    "ratelimit_adjustments_total",
    "What was told beside checks: refund, penalize, observe, reset, lease, unspent",
    ["kind", "outcome"],
)
PERMITS = LoopCounter(
    "ratelimit_permits_total",
    "Permits: taken, refused, renewed, released or expired",
    ["policy", "outcome"],
)
USAGE_ROWS = Gauge("ratelimit_usage_rows", "Counts of shops that the database does not know yet")
USAGE_LOST = Counter(
    "ratelimit_usage_unattributed_total",
    "Limits judged for shops that had to make room, and that usage does not tell of",
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
POLICIES = Gauge("ratelimit_policies", "Policies in force")
OVERRIDES = Gauge("ratelimit_overrides", "Overrides of shops in force")
CONFIGURATION_READ = Gauge(
    "ratelimit_configuration_read_timestamp_seconds",
    "When policies were last read from the database, in full",
)
CONFIGURATION_UNREADABLE = Gauge(
    "ratelimit_configuration_unreadable",
    "Stored settings that cannot be read; what held before them stays in force",
)

_STORE_S = {each: STORE_S.labels(each) for each in (Backend.REDIS, Backend.POSTGRES)}
_BATCH_LIMITS = {each: BATCH_LIMITS.labels(each) for each in _STORE_S}


def show_backend(now: Backend) -> None:
    for each in Backend:
        BACKEND.labels(each).set(1 if each is now else 0)


def count_switch(old: Backend, new: Backend) -> None:
    SWITCHES.labels(old, new).inc()
    show_backend(new)


def show_configuration(*, policies: int, overrides: int = 0) -> None:
    """Read just now."""
    POLICIES.set(policies)
    OVERRIDES.set(overrides)
    CONFIGURATION_READ.set_to_current_time()


def count_call(backend: Backend, seconds: float, limits: int) -> None:
    _STORE_S[backend].observe(seconds)
    _BATCH_LIMITS[backend].observe(limits)


def count_adjustment(kind: str, outcome: str) -> None:
    """`kind`: the path's word; `outcome`: done, or nothing (used before, drained, not there)."""
    ADJUSTMENTS.labels(kind, outcome).count += 1


def count_permit(policy: str, outcome: str) -> None:
    PERMITS.labels(policy, outcome).count += 1


def count_listed(kind: ListKind) -> None:
    LISTED.labels(kind).count += 1
