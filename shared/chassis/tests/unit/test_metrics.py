"""The histogram of the hot paths says the same as the library's own."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from chassis.metrics import LoopHistogram

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
