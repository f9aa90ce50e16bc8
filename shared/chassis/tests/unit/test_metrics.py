"""The histogram of the hot paths says the same as the library's own."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from chassis.metrics import LoopCounter, LoopHistogram

BOUNDS = (0.5, 1.0, 2.5)
VALUES = st.one_of(st.sampled_from(BOUNDS), st.integers(0, 12).map(lambda n: n / 4))


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), VALUES)))
def test_it_counts_as_the_librarys_histogram_does(observed: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = LoopHistogram("took_seconds", "How long", "of", buckets=BOUNDS, registry=ours)
    other = Histogram("took_seconds", "How long", ["of"], buckets=BOUNDS, registry=theirs)
    for label, value in observed:
        one.labels(label).observe(value)
        other.labels(label).observe(value)
    created = "_created"
    expected = [
        line for line in generate_latest(theirs).decode().split("\n") if created not in line
    ]
    assert generate_latest(ours).decode().split("\n") == expected


@given(st.lists(st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")])))
def test_it_counts_as_the_librarys_counter_does(counted: list[tuple[str, str]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = LoopCounter("done_total", "How many", ["of", "to"], registry=ours)
    other = Counter("done_total", "How many", ["of", "to"], registry=theirs)
    for labels in counted:
        one.labels(*labels).count += 1
        other.labels(*labels).inc()
    expected = [line for line in generate_latest(theirs).decode().split("\n")
                if "_created" not in line]  # fmt: skip
    assert generate_latest(ours).decode().split("\n") == expected
