"""When a cron expression fires, in a time zone that changes its clocks.

With a fixed hour it follows the wall clock: a time that is skipped fires when the gap ends, a time
that comes twice fires the first time. With `*` as hour or minute it follows elapsed time.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

FIELDS = 5
# No expression of minutes fires twice within it.
APART = timedelta(seconds=30)


class WrongCron(ValueError):
    """The text is no cron expression, or none that ever fires."""


class WrongZone(ValueError):
    """There is no time zone of this name."""


def zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise WrongZone(f"there is no time zone {name}") from None


def fires(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Every fire strictly later than `after`, in UTC. WrongCron, WrongZone."""
    where = zone(timezone)
    if len(cron.split()) != FIELDS:
        raise WrongCron(f"has {len(cron.split())} fields instead of {FIELDS}")
    try:
        found = CronSim(cron, after.astimezone(where))
    except CronSimError as error:
        raise WrongCron(str(error)) from None
    return _later(found, after)


def _later(found: CronSim, after: datetime) -> Iterator[datetime]:
    """In the second of two equal hours the first one's fires come again: they are over."""
    for fire in found:
        at = fire.astimezone(UTC)
        if at > after:
            after = at
            yield at


def next_fire(cron: str, timezone: str, after: datetime) -> datetime:
    """The first fire later than `after`. WrongCron when there is none within 50 years."""
    at = next(fires(cron, timezone, after), None)
    if at is None:
        raise WrongCron("never fires")
    return at


def last_fire(cron: str, timezone: str, first: datetime, now: datetime) -> datetime:
    """The last fire that is not later than `now`; `first` is one of them.

    By halves, since between the two there may be millions.
    """
    early, late = first, now
    if next_fire(cron, timezone, early) > now:
        return first
    while late - early > APART:
        middle = early + (late - early) / 2
        if next_fire(cron, timezone, middle) <= now:
            early = middle
        else:
            late = middle
    return next_fire(cron, timezone, early)
