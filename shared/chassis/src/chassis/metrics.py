"""The metrics every process has. A service declares its own, once, in its `metrics.py`.

Labels come from enums and route templates. A shop, a path, an id or an error's text is never one:
`FORBIDDEN_LABELS` is what the tests look for in the exposition.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
FORBIDDEN_LABELS = frozenset({"shop", "path", "id", "job_id", "url", "error", "key", "ip"})


class Series:
    """What was observed under one label. Not locked: for one thread, as the event loop is."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class LoopHistogram(Collector):
    """A histogram for paths where the locks of the library's own are felt; one label."""

    def __init__(
        self,
        name: str,
        documentation: str,
        label: str,
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name, self._documentation, self._labelnames = name, documentation, (label,)
        self._bounds = tuple(buckets)
        self._series: dict[str, Series] = {}
        registry.register(self)

    def labels(self, value: str) -> Series:
        """Keep what this answers: it is always the same for a value."""
        return self._series.setdefault(value, Series(self._bounds))

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labelnames)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        [family] = self.describe()
        edges = [*map(str, self._bounds), "+Inf"]
        for value, series in self._series.items():
            upto = accumulate(series.counts)
            family.add_metric([value], list(zip(edges, upto, strict=True)), sum_value=series.sum)
        return [family]


class Tally:
    """What was counted under some labels. Not locked, as `Series`."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class LoopCounter(Collector):
    """A counter for the same paths as `LoopHistogram`: `labels(...).count += 1`."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self._name, self._documentation, self._labelnames = name, documentation, tuple(labels)
        self._tallies: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        """Always the same for the same values."""
        tally = self._tallies.get(values)
        if tally is None:
            tally = self._tallies[values] = Tally()
        return tally

    def describe(self) -> Iterable[CounterMetricFamily]:
        return [CounterMetricFamily(self._name, self._documentation, labels=self._labelnames)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        [family] = self.describe()
        for values, tally in self._tallies.items():
            family.add_metric(list(values), tally.count)
        return [family]


HTTP_REQUESTS = LoopCounter(
    "http_requests_total", "Requests answered, by route template", ["method", "route", "status"]
)
HTTP_DURATION_S = LoopHistogram(
    "http_request_duration_seconds",
    "From first byte in to last byte out",
    "route",
    buckets=BUCKETS_S,
)
HTTP_IN_FLIGHT = Tally()
Gauge("http_requests_in_flight", "Requests being served now").set_function(
    lambda: HTTP_IN_FLIGHT.count
)
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
