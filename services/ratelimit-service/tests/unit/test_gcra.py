"""What the arithmetic promises, whatever the order of events."""

from hypothesis import given
from hypothesis import strategies as st

from ratelimit_service.core import gcra

paces = st.builds(
    lambda t, burst: gcra.Pace(t, t * burst, 1), st.integers(1, 10**6), st.integers(1, 1000)
)


def ask(pace: gcra.Pace, cost: int = 1, wait_us: int = 0) -> gcra.Ask:
    return gcra.Ask((gcra.Limit("k", pace, cost, wait_us),))


class Bucket:
    def __init__(self) -> None:
        self.records: dict[str, gcra.Record] = {}

    def take(self, asked: gcra.Ask, now_us: int) -> gcra.Verdict:
        [verdict], changed = gcra.decide(gcra.Batch([asked]), self.records, now_us)
        self.records.update(changed)
        return verdict


@given(paces, st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 50)), max_size=60))
def test_never_more_than_burst_and_refill(pace: gcra.Pace, events: list[tuple[int, int]]) -> None:
    bucket, now, given_out = Bucket(), 10**15, 0
    for pause_us, cost in events:
        now += pause_us
        if bucket.take(ask(pace, cost), now).passed:
            given_out += cost
    assert given_out * pace.t_us <= pace.tau_us + (now - 10**15)


@given(paces, st.integers(0, 2000))
def test_a_full_bucket_gives_its_burst_at_once_and_no_more(pace: gcra.Pace, extra: int) -> None:
    bucket = Bucket()
    assert bucket.take(ask(pace, pace.burst), 10**15).passed
    assert not bucket.take(ask(pace, 1 + extra), 10**15).passed


@given(paces, st.integers(0, 10**9))
def test_the_time_to_wait_is_exact(pace: gcra.Pace, idle_us: int) -> None:
    bucket, now = Bucket(), 10**15
    bucket.take(ask(pace, pace.burst), now)
    now += idle_us
    verdict = bucket.take(ask(pace, pace.burst), now)
    over_us = verdict.levels[0].over_us(pace.burst)
    assert verdict.passed == (over_us <= 0)
    if not verdict.passed:
        assert not bucket.take(ask(pace, pace.burst), now + over_us - 1).passed
        assert bucket.take(ask(pace, pace.burst), now + over_us).passed


@given(paces, st.integers(1, 100))
def test_reservations_never_share_a_slot(pace: gcra.Pace, count: int) -> None:
    bucket = Bucket()
    verdicts = [bucket.take(ask(pace, 1, 10**9), 10**15) for _ in range(count)]
    slots = [each.levels[0].debt_us for each in verdicts if each.passed]
    assert len(set(slots)) == len(slots)


@given(paces, paces, st.integers(0, 1000))
def test_a_change_of_pace_keeps_the_tokens_that_were_spent(
    old: gcra.Pace, new: gcra.Pace, spent: int
) -> None:
    spent = min(spent, old.burst)
    debt_us = gcra.converted(spent * old.t_us, old=old, new=new)
    assert debt_us == min(spent, new.burst) * new.t_us


def test_a_clock_set_back_refuses_for_no_longer_than_the_bucket_and_the_longest_wait() -> None:
    pace = gcra.Pace(1000, 10_000, 1)
    record = gcra.RateLimitRecord(10**15, pace)
    assert gcra.level(record, pace, 10**14).debt_us == pace.tau_us + gcra.MAX_WAIT_US


def test_an_asker_behind_the_times_is_judged_by_the_newer_pace() -> None:
    bucket = Bucket()
    new = gcra.Pace(1000, 2000, 2)
    old = gcra.Pace(1000, 100_000, 1)
    bucket.take(ask(new, 2), 10**15)
    assert not bucket.take(ask(old, 1), 10**15).passed


def moved(pace: gcra.Pace, debt_us: int, op: gcra.Op, cost: int, wait_us: int) -> int:
    return gcra.Level(debt_us, pace).after(gcra.Limit("k", pace, cost, wait_us, op=op)).debt_us


debts = st.integers(0, 10**9)
costs = st.integers(0, 2000) | st.integers(0, 10**9)


@given(paces, debts, costs, st.integers(0, 10**10))
def test_nobody_is_given_more_than_the_tokens_or_than_what_has_not_drained(
    pace: gcra.Pace, debt_us: int, cost: int, undrained_us: int
) -> None:
    given_us = debt_us - moved(pace, debt_us, gcra.Op.GIVE, cost, undrained_us)
    assert given_us == min(debt_us, cost * pace.t_us, undrained_us)


@given(paces, debts, costs, st.integers(0, 10**10))
def test_penalties_and_observations_never_lower_a_debt(
    pace: gcra.Pace, debt_us: int, cost: int, wait_us: int
) -> None:
    raised = moved(pace, debt_us, gcra.Op.RAISE, cost, wait_us)
    highest = pace.tau_us + gcra.MAX_WAIT_US
    assert raised == max(debt_us, min(min(cost, pace.burst) * pace.t_us + wait_us, highest))
    penalized = moved(pace, debt_us, gcra.Op.PENALIZE, cost, wait_us)
    ceiling = pace.tau_us + wait_us
    assert penalized == max(debt_us, min(debt_us + cost * pace.t_us, ceiling))


@given(paces, st.integers(0, 10**7), st.integers(1, 50), st.integers(0, 10**7))
def test_what_was_taken_and_given_back_leaves_no_trace(
    pace: gcra.Pace, debt_us: int, cost: int, later_us: int
) -> None:
    taken = gcra.Level(debt_us + cost * pace.t_us, pace)
    aged = gcra.aged(taken, later_us, None)
    assert aged is not None
    back = moved(pace, aged.debt_us, gcra.Op.GIVE, cost, cost * pace.t_us)
    assert back == max(debt_us - later_us, 0)
