"""Quotas: so many in a window of the calendar. Which window a moment is in, and how long until more
fits.

Windows are aligned to the epoch: those of seconds, minutes and hours in UTC, those of days and
months in a time zone, where a day may have 23 or 25 hours. They are numbered without a gap.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from chassis.kernel.values import value
from ratelimit_service.core import gcra

LIMIT = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,5})?(s|mo|m|h|d)")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "mo": 30 * 86_400}
EPOCH_DAY = date(1970, 1, 1).toordinal()
# Both windows of a quota are kept; one longer than this would outlive whoever set it.
MAX_PERIOD_S = 3_660 * 86_400


@value
class Quota:
    """`n` in every `periods` of `unit`, e.g. 2000/1d. A zone is of days and months alone."""

    n: int
    periods: int
    unit: str
    zone: ZoneInfo | timezone = UTC
    sliding: bool = False

    @property
    def period_s(self) -> int:
        """Nominal: a day has 24 hours and a month 30 days."""
        return self.periods * SECONDS[self.unit]

    @property
    def scope(self) -> str:
        """What tells its windows from others, for the key: another period begins anew."""
        where = "" if self.zone is UTC else f"@{self.zone}"
        return f"{self.periods}{self.unit}{where}"

    def window(self, now_us: int) -> gcra.Window:
        number, begins = self._at(now_us)
        start_us, end_us = begins(number), begins(number + 1)
        next_us = max(begins(number + 2) - end_us, gcra.WHOLE)
        return gcra.Window(number, start_us, end_us, next_us, self.sliding)

    def _at(self, now_us: int) -> tuple[int, Callable[[int], int]]:
        """The number of the window, and when a window begins."""
        if self.unit not in ("d", "mo"):
            length_us = self.period_s * gcra.WHOLE
            return now_us // length_us, lambda number: number * length_us
        today = datetime.fromtimestamp(now_us // gcra.WHOLE, UTC).astimezone(self.zone).date()
        if self.unit == "d":
            return (today.toordinal() - EPOCH_DAY) // self.periods, self._day_us
        return ((today.year - 1970) * 12 + today.month - 1) // self.periods, self._month_us

    def _day_us(self, number: int) -> int:
        return self._midnight_us(date.fromordinal(EPOCH_DAY + number * self.periods))

    def _month_us(self, number: int) -> int:
        years, month = divmod(number * self.periods, 12)
        return self._midnight_us(date(1970 + years, month + 1, 1))

    def _midnight_us(self, day: date) -> int:
        """Where clocks jump over midnight, the day begins with the jump."""
        begins = datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)
        return (begins - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


class Calendar:
    """The window of a quota, found once for as long as it lasts."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self._window: gcra.Window | None = None

    def window(self, now_us: int) -> gcra.Window:
        known = self._window
        if known is None or not known.start_us <= now_us < known.end_us:
            known = self._window = self.quota.window(now_us)
        return known


def until_us(level: gcra.Level, window: gcra.Window, room: int) -> int:
    """How long until no more than `room` counts as used, if nobody asks meanwhile."""
    span = level.span
    assert span is not None
    if level.debt_us <= room:
        return 0
    if not window.sliding:
        return span.left_us
    if level.used <= room:
        share = (room - level.used) * gcra.WHOLE // span.before
        return span.left_us - share * (span.length_us // gcra.WHOLE)
    # In the window after this one, what is used now is what was used before.
    next_us = window.next_us if span.number == window.number else span.length_us
    share = max(min(room * gcra.WHOLE // level.used, gcra.WHOLE), 0)
    return span.left_us + next_us - share * (next_us // gcra.WHOLE)
