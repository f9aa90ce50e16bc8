"""delay_s: grows by the factor, never beyond the maximum, and never the same for everybody."""

from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import backoff

FAILURES = st.integers(1, 10_000)


@given(FAILURES, st.floats(0.01, 100), st.floats(0.1, 3600), st.floats(1, 10), st.floats(0, 1))
def test_lies_between_the_jittered_and_the_full_delay(
    failures: int, base_s: float, max_s: float, factor: float, jitter: float
) -> None:
    delay_s = backoff.delay_s(failures, base_s=base_s, max_s=max_s, factor=factor, jitter=jitter)
    full_s = min(max_s, base_s * factor ** min(failures - 1, 64))
    assert full_s * (1 - jitter) * 0.999 <= delay_s <= full_s


def test_doubles_until_the_maximum() -> None:
    delays = [
        backoff.delay_s(n, base_s=0.5, max_s=5, uniform=lambda _low, high: high)
        for n in range(1, 7)
    ]
    assert delays == [0.5, 1, 2, 4, 5, 5]


def test_the_draw_is_between_one_less_jitter_and_one() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    assert backoff.delay_s(1, base_s=8, max_s=60, jitter=0.25, uniform=uniform) == 6
    assert drawn == [(0.75, 1.0)]


def test_no_failure_yet_counts_as_the_first() -> None:
    assert backoff.delay_s(0, base_s=2, max_s=60, jitter=0) == 2
