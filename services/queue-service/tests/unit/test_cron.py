"""When schedules fire, above all on the two days a year on which the clocks change."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest

from queue_service.core import cron

ATHENS, NEW_YORK, LORD_HOWE = "Europe/Athens", "America/New_York", "Australia/Lord_Howe"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def first(expression: str, timezone: str, after: str, count: int) -> list[str]:
    """The next fires, as the wall clock there shows them."""
    found = islice(cron.fires(expression, timezone, at(after)), count)
    return [fire.astimezone(cron.zone(timezone)).strftime("%m-%d %H:%M %z") for fire in found]


@pytest.mark.parametrize(
    ("expression", "timezone", "after", "fires"),
    [
        # Athens: 03:00 +0200 becomes 04:00 +0300. New York: 02:00 -0500 becomes 03:00 -0400.
        ("30 3 * * *", ATHENS, "2026-03-28T12:00Z", ["03-29 04:00 +0300", "03-30 03:30 +0300"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00Z", ["03-08 03:00 -0400", "03-09 02:30 -0400"]),
    ],
)
def test_a_time_that_the_spring_skips_fires_when_the_gap_ends(
    expression: str, timezone: str, after: str, fires: list[str]
) -> None:
    assert first(expression, timezone, after, 2) == fires


def test_a_time_in_the_gap_of_new_york_fires_once() -> None:
    assert first("0,30 2 * * *", NEW_YORK, "2026-03-07T12:00Z", 3) == [
        "03-08 03:00 -0400", "03-09 02:00 -0400", "03-09 02:30 -0400",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "timezone", "after", "fires"),
    [
        # Athens: 04:00 +0300 becomes 03:00 +0200. New York: 02:00 -0400 becomes 01:00 -0500.
        ("30 3 * * *", ATHENS, "2026-10-24T12:00Z", ["10-25 03:30 +0300", "10-26 03:30 +0200"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00Z", ["11-01 01:30 -0400", "11-02 01:30 -0500"]),
    ],
)
def test_a_time_that_comes_twice_in_autumn_fires_the_first_time(
    expression: str, timezone: str, after: str, fires: list[str]
) -> None:
    assert first(expression, timezone, after, 2) == fires


def test_asked_within_the_second_of_two_equal_hours_nothing_of_the_past_fires() -> None:
    assert first("30 1 * * *", NEW_YORK, "2026-11-01T01:10-05:00", 1) == ["11-02 01:30 -0500"]
    assert first("30 3 * * *", ATHENS, "2026-10-25T03:10+02:00", 1) == ["10-26 03:30 +0200"]


@pytest.mark.parametrize("timezone", [ATHENS, NEW_YORK, LORD_HOWE])
@pytest.mark.parametrize("after", ["2026-03-07T00:00Z", "2026-10-31T00:00Z", "2026-03-28T00:00Z",
                                   "2026-10-24T00:00Z", "2026-04-04T00:00Z"])  # fmt: skip
def test_every_quarter_of_an_hour_is_fifteen_minutes_whatever_the_clock_does(
    timezone: str, after: str
) -> None:
    fires = list(islice(cron.fires("*/15 * * * *", timezone, at(after)), 400))
    assert {later - earlier for earlier, later in pairwise(fires)} == {timedelta(minutes=15)}


def test_a_day_has_one_midnight_all_year() -> None:
    for timezone in (ATHENS, NEW_YORK, LORD_HOWE):
        fires = list(islice(cron.fires("0 0 * * *", timezone, at("2026-01-01T12:00Z")), 365))
        days = {fire.astimezone(cron.zone(timezone)).date() for fire in fires}
        assert len(days) == 365


@pytest.mark.parametrize(
    "expression",
    ["0 0 30 2 *", "0 0 31 4 *", "60 * * * *", "* * * *", "* * * * * *", "@daily", "x * * * *", "",
     "*/0 * * * *", "0 0 * 2 MON#6"],
)  # fmt: skip
def test_what_is_no_expression_or_never_fires_is_refused(expression: str) -> None:
    with pytest.raises(cron.WrongCron):
        cron.next_fire(expression, "UTC", at("2026-01-01T00:00Z"))


@pytest.mark.parametrize("name", ["Europe/Atlantis", "Europe", "../etc/passwd", "/etc/localtime",
                                  "x" * 300, "a\x00b"])  # fmt: skip
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(cron.WrongZone):
        cron.next_fire("* * * * *", name, at("2026-01-01T00:00Z"))


@pytest.mark.parametrize(
    ("expression", "timezone"),
    [("* * * * *", "UTC"), ("*/7 3 * * *", ATHENS), ("30 1 * * *", NEW_YORK),
     ("0 9 1 * *", ATHENS), ("0 0 29 2 *", "UTC"), ("* 0 * * MON", NEW_YORK)],
)  # fmt: skip
@pytest.mark.parametrize("now", ["2026-11-01T01:10-05:00", "2026-03-29T04:00+03:00",
                                 "2026-11-25T00:00:30Z", "2028-03-01T00:00Z"])  # fmt: skip
def test_the_last_fire_is_found_without_counting_all(
    expression: str, timezone: str, now: str
) -> None:
    first_fire = cron.next_fire(expression, timezone, at("2024-02-01T00:00Z"))
    last = cron.last_fire(expression, timezone, first_fire, at(now))
    assert last <= at(now) < cron.next_fire(expression, timezone, last)
    assert last == cron.next_fire(expression, timezone, last - timedelta(seconds=1))
