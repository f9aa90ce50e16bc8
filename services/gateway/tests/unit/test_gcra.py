"""The buckets of this process."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core import gcra
from testkit.clock import FakeClock

PACE = gcra.pace(per_s=2, burst=4)
A, B = ("ip", "10.0.0.1"), ("ip", "10.0.0.2")


def test_a_burst_then_the_rate(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic)
    taken = [buckets.take(A, PACE) for _ in range(5)]
    assert [level.allowed for level in taken] == [True] * 4 + [False]
    assert [level.remaining for level in taken] == [3, 2, 1, 0, 0]
    assert taken[-1].retry_after_s == 0.5
    clock.advance(0.5)
    assert buckets.take(A, PACE).allowed
    assert not buckets.take(A, PACE).allowed
    assert buckets.take(B, PACE).allowed


def test_looking_takes_nothing(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic)
    assert {buckets.peek(A, PACE).remaining for _ in range(9)} == {4}
    assert len(buckets) == 0


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_never_more_than_burst_and_rate(pauses: list[float]) -> None:
    clock = FakeClock()
    buckets = gcra.Buckets(clock.monotonic)
    passed = 0
    for pause in pauses:
        clock.advance(pause)
        passed += buckets.take(A, PACE).allowed
    assert passed <= PACE.burst + 2 * sum(pauses) + 1e-3


@given(st.integers(1, 9), st.lists(st.floats(0, 3), min_size=1, max_size=30))
def test_shares_add_up_to_the_whole(among: int, pauses: list[float]) -> None:
    """But for one token each, where a share is less than one."""
    clock = FakeClock()
    share = PACE.shared(among)
    each = [gcra.Buckets(clock.monotonic) for _ in range(among)]
    passed = 0
    for pause in pauses:
        clock.advance(pause)
        for buckets in each:
            while buckets.take(A, share).allowed:
                passed += 1
    whole = PACE.burst + 2 * sum(pauses)
    assert passed <= max(whole, among * (1 + sum(pauses) * 0.5)) + 1e-3


def test_only_a_full_bucket_is_forgotten(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic, capacity=3)
    for n in range(4):
        buckets.take(A, PACE)
        buckets.take(("ip", f"10.0.{n + 1}.1"), PACE)
    assert not buckets.take(A, PACE).allowed
    clock.advance(0.6)
    assert buckets.take(("ip", "10.9.0.1"), PACE).allowed
    assert buckets.get(("ip", "10.9.0.1")) is not None
    assert buckets.get(A) is not None


def test_while_none_is_full_newcomers_share_by_neighbourhood(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic, capacity=1)
    for _ in range(3):
        buckets.take(A, PACE)
    for near in ("192.0.2.{}", "2001:db8:1:{}::"):
        passed = sum(buckets.take(("ip", near.format(n)), PACE).allowed for n in range(200))
        assert passed == PACE.burst
    assert buckets.take(("ip", "198.51.100.1"), PACE).allowed


def test_a_crowd_of_addresses_takes_no_more_room_than_there_is(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic, capacity=100)
    for _ in range(3):
        buckets.take(A, PACE)
    for n in range(10_000):
        buckets.take(("ip", f"10.{n >> 8}.{n & 255}.9"), PACE)
        clock.advance(0.00001)
    assert len(buckets) <= 100 + gcra.SHARED
    assert buckets.peek(A, PACE).remaining == 1


def test_what_was_given_out_is_told_once(clock: FakeClock) -> None:
    buckets = gcra.Buckets(clock.monotonic)
    start_us = gcra.now_us(clock.monotonic) + PACE.t_us
    for _ in range(3):
        buckets.take(A, PACE, start_us=start_us)
    assert not buckets.take(A, PACE).allowed
    bucket = buckets.get(A)
    assert bucket is not None

    def given() -> int:
        return bucket.given(gcra.now_us(clock.monotonic))

    assert given() == 3
    clock.advance(1)
    assert given() == 2
    bucket.told(1, gcra.now_us(clock.monotonic))
    assert given() == 1
    bucket.told(5, gcra.now_us(clock.monotonic))
    assert given() == 0
    assert buckets.take(A, PACE).allowed
    assert given() == 1
