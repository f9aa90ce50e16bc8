"""Every metric of session-service."""

from prometheus_client import Counter, Gauge

from chassis.metrics import LoopCounter

READS = LoopCounter(
    "session_reads_total", "Sessions and tokens read, by what answered", ["backend"]
)
GRANTS = Counter(
    "session_grants_total",
    "Questions for tokens that were put to Shopify, by what came of them",
    ["grant", "outcome"],
)
REFRESHES = Counter(
    "session_refreshes_total", "Renewals of tokens that were asked of Shopify", ["outcome"]
)
SHOPIFY_REFUSES = Gauge(
    "session_shopify_refuses_app",
    "1 while Shopify refuses the app itself for one shop after another: its key or secret is wrong",
)
CLEANUP_DELETED = Counter(
    "session_cleanup_deleted_total", "Sessions removed after the last of their tokens had ended"
)
CLEANUP_FINISHED = Gauge(
    "session_cleanup_finished_timestamp_seconds", "When a cleanup last came to its end, anywhere"
)
UNREADABLE = Counter(
    "session_unreadable_total", "Sessions that no key of ours opened when they were asked for"
)
SESSIONS = Gauge(
    "session_sessions",
    "Offline sessions that need somebody: non_expiring, refreshless, reauth_required, revoked; and"
    " any that are under another key than the current: old_key",
    ["kind"],
)
ADMIN_CALLS = Counter(
    "session_admin_calls_total",
    "Calls of the Admin API for apps: answered, remembered, or the code of the problem",
    ["api", "outcome"],
)
