"""The buckets of this process."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core import gcra
from testkit.clock import FakeClock

RATE = gcra.Rate(per_s=2, burst=4)


def test_a_burst_then_the_rate(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic)
    taken = [buckets.take(("a",), RATE) for _ in range(5)]
    assert [level.allowed for level in taken] == [True] * 4 + [False]
    assert [level.remaining for level in taken] == [3, 2, 1, 0, 0]
    assert taken[-1].retry_after_s == 0.5
    clock.advance(0.5)
    assert buckets.take(("a",), RATE).allowed
    assert not buckets.take(("a",), RATE).allowed
    assert buckets.take(("b",), RATE).allowed


def test_looking_takes_nothing(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic)
    assert {buckets.peek(("a",), RATE).remaining for _ in range(9)} == {4}


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_never_more_than_burst_and_rate(pauses: list[float]) -> None:
    clock = FakeClock()
    buckets = gcra.Buckets(clock.monotonic)
    passed = 0
    for pause in pauses:
        clock.advance(pause)
        passed += buckets.take(("a",), RATE).allowed
    assert passed <= RATE.burst + RATE.per_s * sum(pauses) + 1e-3


def test_only_so_many_keys_are_kept(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic, capacity=3)
    for n in range(10):
        buckets.take((str(n),), RATE)
    assert len(buckets) == 3
