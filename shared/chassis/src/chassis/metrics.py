"""The metrics every process has. A service declares its own, once, in its `metrics.py`.

Labels come from enums and route templates. A shop, a path, an id or an error's text is never one:
`FORBIDDEN_LABELS` is what the tests look for in the exposition.
"""

from prometheus_client import Counter, Gauge, Histogram

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
FORBIDDEN_LABELS = frozenset({"shop", "path", "id", "job_id", "url", "error", "key", "ip"})

HTTP_REQUESTS = Counter(
    "http_requests_total", "Requests answered, by route template", ["method", "route", "status"]
)
HTTP_DURATION_S = Histogram(
    "http_request_duration_seconds",
    "From first byte in to last byte out",
    ["route"],
    buckets=BUCKETS_S,
)
HTTP_IN_FLIGHT = Gauge("http_requests_in_flight", "Requests being served now")
LOOP_PASSES = Counter("loop_passes_total", "Passes of a background loop", ["loop", "outcome"])
LOOP_DURATION_S = Histogram(
    "loop_pass_duration_seconds", "Time of one pass", ["loop"], buckets=BUCKETS_S
)
LOOP_LAST_SUCCESS = Gauge(
    "loop_last_success_timestamp_seconds", "When a pass last ended well", ["loop"]
)
EVENT_LOOP_LAG_S = Gauge(
    "process_event_loop_lag_seconds", "How late the event loop runs its timers"
)
BUILD = Gauge("mainstay_build_info", "Always 1", ["service", "version"])
