"""Every metric of queue-service."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from chassis.metrics import LoopHistogram, Series

# From milliseconds to the longest handler.
DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
DELAYS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0)

JOBS = Gauge("queue_jobs", "Live jobs, by state", ["queue", "state"])
OLDEST_READY_AGE_S = Gauge(
    "queue_oldest_ready_age_seconds", "How long the oldest ready job has been due", ["queue"]
)
ENQUEUED = Counter("queue_jobs_enqueued_total", "New jobs stored, by road", ["queue", "road"])
FINISHED = Counter("queue_jobs_finished_total", "Attempts, by how they ended", ["queue", "outcome"])
DURATION_S = LoopHistogram(
    "queue_job_duration_seconds", "From a job's start to its end", "queue", buckets=DURATIONS_S
)
START_DELAY_S = LoopHistogram(
    "queue_start_delay_seconds", "From due to started", "queue", buckets=DELAYS_S
)
RESCUED = Counter(
    "queue_jobs_rescued_total", "Jobs taken from workers that died or were late", ["reason"]
)
WITHOUT_HANDLER = Counter(
    "queue_jobs_without_handler_total", "Attempts put off: no handler for the kind", ["queue"]
)
ABANDONED = Gauge("queue_handlers_abandoned", "Handlers that go on although their jobs have ended")
DISPATCH_BACKEND = Gauge(
    "queue_dispatch_backend", "1 for what hands jobs to workers now", ["backend"]
)
DISPATCH_SWITCHES = Counter(
    "queue_dispatch_switches_total", "Changes of what hands jobs to workers", ["to"]
)
OFFERED = Counter(
    "queue_jobs_offered_total",
    "Offers that were taken, by whether they could be claimed",
    ["result"],
)
HANDED = Counter(
    "queue_jobs_handed_total", "Jobs given to this worker while idle, by what it did", ["result"]
)
HISTORY_OVERFLOW = Gauge("queue_history_overflow_rows", "Settled jobs for which no day was there")
HORIZON_AGE_S = Gauge(
    "queue_horizon_age_seconds", "For how long the oldest snapshot has kept dead rows in place"
)
HORIZON_TRANSACTIONS = Gauge(
    "queue_horizon_transactions", "Transactions that have begun since the oldest snapshot"
)
SCHEDULE_FIRES = Counter(
    "queue_schedule_fires_total", "Fires of schedules, by what became of them", ["outcome"]
)
PUSHES = Counter(
    "queue_pushes_total", "Deliveries to push handlers, by how they ended", ["outcome"]
)
PUSH_DURATION_S = Histogram(
    "queue_push_duration_seconds", "From a delivery's start to its answer", buckets=DURATIONS_S
)
PARKED_POLLS = Gauge("queue_parked_polls", "Lease calls that wait for jobs now")


# Finding the child of a labelled metric costs more than counting with it.
@cache
def finished(queue: str, outcome: str) -> Counter:
    return FINISHED.labels(queue, outcome)


@cache
def duration_s(queue: str) -> Series:
    return DURATION_S.labels(queue)


@cache
def start_delay_s(queue: str) -> Series:
    return START_DELAY_S.labels(queue)
