"""Windows of the calendar, and how long until more fits into them."""

from datetime import UTC, datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratelimit_service.core import gcra, quota
from ratelimit_service.core.quota import Quota

HOUR_US = 3_600_000_000
PACIFIC = ZoneInfo("America/Los_Angeles")
ZONES: list[ZoneInfo | timezone] = [
    UTC,
    PACIFIC,
    ZoneInfo("Europe/Athens"),
    ZoneInfo("Asia/Kathmandu"),
    ZoneInfo("Africa/Cairo"),  # its clocks jump over midnight
    ZoneInfo("Pacific/Auckland"),
]
units = st.sampled_from([("s", 90), ("m", 40), ("h", 30), ("d", 9), ("mo", 14)])
# From 1990 to 2050.
moments = st.integers(631_152_000_000_000, 2_524_608_000_000_000)


@st.composite
def quotas(draw: st.DrawFn) -> Quota:
    unit, most = draw(units)
    zone = draw(st.sampled_from(ZONES)) if unit in ("d", "mo") else UTC
    return Quota(
        draw(st.integers(1, 50)), draw(st.integers(1, most)), unit, zone, draw(st.booleans())
    )


def us(*moment: int, zone: ZoneInfo | None = None) -> int:
    return int(datetime(*moment, tzinfo=zone or UTC).timestamp()) * 1_000_000  # type: ignore[arg-type, misc]


@given(quotas(), moments)
def test_a_moment_is_in_its_window_and_windows_follow_without_a_gap(
    counted: Quota, now_us: int
) -> None:
    window = counted.window(now_us)
    assert window.start_us <= now_us < window.end_us
    assert window.length_us % 1_000_000 == 0
    after = counted.window(window.end_us)
    assert (after.number, after.start_us) == (window.number + 1, window.end_us)
    assert after.length_us == window.next_us
    assert counted.window(window.end_us - 1) == window


def test_a_day_ends_at_midnight_of_its_zone() -> None:
    window = Quota(2000, 1, "d", PACIFIC).window(us(2026, 1, 15, 7, 59))
    assert window.end_us == us(2026, 1, 15, 8)
    assert Quota(2000, 1, "d").window(us(2026, 1, 15, 7, 59)).end_us == us(2026, 1, 16)


@pytest.mark.parametrize(
    ("day", "hours"), [((2026, 3, 8), 23), ((2026, 11, 1), 25), ((2026, 6, 1), 24)]
)
def test_a_day_is_as_long_as_the_clocks_of_its_zone_make_it(
    day: tuple[int, int, int], hours: int
) -> None:
    window = Quota(1, 1, "d", PACIFIC).window(us(*day, 12, zone=PACIFIC))
    assert window.length_us == hours * HOUR_US


def test_a_month_is_one_of_the_calendar() -> None:
    counted = Quota(1, 1, "mo", PACIFIC)
    window = counted.window(us(2028, 2, 29, 23, zone=PACIFIC))
    assert (window.start_us, window.end_us) == (
        us(2028, 2, 1, zone=PACIFIC),
        us(2028, 3, 1, zone=PACIFIC),
    )
    assert Quota(1, 3, "mo").window(us(2026, 5, 5)).start_us == us(2026, 4, 1)


def test_periods_below_a_day_are_aligned_to_the_epoch() -> None:
    window = Quota(1, 5, "h").window(us(2026, 5, 5, 3))
    assert window.start_us % (5 * HOUR_US) == 0
    assert window.number == window.start_us // (5 * HOUR_US)


class Counter:
    """The reference, one key, with the records it leaves."""

    def __init__(self, counted: Quota) -> None:
        self.quota = counted
        self.pace = gcra.Pace(1, counted.n, 1)
        self.records: dict[str, gcra.Record] = {}

    def take(self, now_us: int, cost: int = 1, *, peek: bool = False) -> gcra.Verdict:
        window = self.quota.window(now_us)
        asked = gcra.Ask((gcra.Limit("k", self.pace, cost, window=window),), peek)
        [verdict], changed = gcra.decide(gcra.Batch([asked]), self.records, now_us)
        self.records.update(changed)
        return verdict


@given(quotas(), moments, st.lists(st.floats(0, 1.5), min_size=1, max_size=60))
def test_no_window_gives_more_than_the_limit(
    counted: Quota, now_us: int, pauses: list[float]
) -> None:
    counter, given_out = Counter(counted), dict[int, int]()
    for pause in pauses:
        now_us += int(pause * counted.period_s * 1_000_000 / 10)
        number = counted.window(now_us).number
        if counter.take(now_us).passed:
            given_out[number] = given_out.get(number, 0) + 1
    assert max(given_out.values(), default=0) <= counted.n


@given(quotas(), moments, st.lists(st.floats(0, 1.5), min_size=1, max_size=30), st.integers(1, 50))
def test_the_time_until_a_cost_fits_is_exact(
    counted: Quota, now_us: int, pauses: list[float], cost: int
) -> None:
    counter, cost = Counter(counted), min(cost, counted.n)
    for pause in pauses:
        now_us += int(pause * counted.period_s * 1_000_000 / 10)
        counter.take(now_us, 1 + counted.n // 7)
    [level] = counter.take(now_us, cost, peek=True).levels
    wait_us = quota.until_us(level, counted.window(now_us), counted.n - cost)
    assert counter.take(now_us + wait_us, cost, peek=True).passed
    assert not wait_us or not counter.take(now_us + wait_us - 1, cost, peek=True).passed


@given(quotas(), moments, st.integers(1, 60))
def test_a_clock_that_lags_at_the_end_of_a_window_opens_no_second_quota(
    counted: Quota, now_us: int, lag_s: int
) -> None:
    counter, window = Counter(counted), counted.window(now_us)
    lag_us = min(lag_s * 1_000_000, window.length_us)
    assert counter.take(window.end_us, counted.n).passed
    assert not counter.take(window.end_us - lag_us).passed
    assert not counter.take(window.end_us + 1).passed


def test_a_changed_limit_keeps_what_was_used() -> None:
    counter = Counter(Quota(10, 1, "d"))
    now_us = us(2026, 5, 5, 12)
    assert counter.take(now_us, 8).passed
    counter.pace = gcra.Pace(1, 5, 2)
    assert not counter.take(now_us).passed
    counter.pace = gcra.Pace(1, 12, 3)
    assert counter.take(now_us, 4).passed
    assert not counter.take(now_us).passed


def test_what_was_used_in_the_window_before_weighs_by_what_is_left_of_this_one() -> None:
    counter = Counter(Quota(10, 1, "h", sliding=True))
    assert counter.take(us(2026, 5, 5, 12), 10).passed
    assert not counter.take(us(2026, 5, 5, 13)).passed
    assert counter.take(us(2026, 5, 5, 13, 30), 5).passed
    assert not counter.take(us(2026, 5, 5, 13, 30)).passed


def test_a_gift_counts_only_in_the_window_of_its_charge() -> None:
    counter = Counter(Quota(10, 1, "h"))
    now_us = us(2026, 5, 5, 12)
    number = counter.quota.window(now_us).number
    counter.take(now_us, 10)
    for charged_in, used in ((number - 1, 10), (number, 7)):
        given_back = gcra.Limit(
            "k", counter.pace, 3, charged_in, False, gcra.Op.GIVE, counter.quota.window(now_us)
        )
        _, changed = gcra.decide(gcra.Batch([gcra.Ask((given_back,))]), counter.records, now_us)
        counter.records.update(changed)
        assert counter.take(now_us, peek=True).levels[0].used == used
