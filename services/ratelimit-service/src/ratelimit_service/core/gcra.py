"""The limiter's arithmetic: GCRA on whole microseconds, and quotas of the calendar beside it, for
a batch of checks at one moment.

This is the reference. The SQL function and the Lua script compute the same from the same batch,
and a test holds them to it. A bucket is one number, its debt: the time until it is full again. A
quota is a bucket that nothing drains but its window: its debt is what was used, in tokens, and its
pace is `Pace(1, n, version)`. Debts are relative to the clock of whoever keeps them, so only
durations cross clocks; windows are named by their number. Every number stays below 2^53, so that
Lua's doubles are exact.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum

from chassis.kernel.values import value

# Two debts and a token more stay exact.
MAX_TAU_US = 2**51
# A stored debt is never believed beyond the tolerance and the longest wait that is sold: a clock
# that was set back refuses for so long at most.
MAX_WAIT_US = 600_000_000
# What a window before weighs is counted in millionths.
WHOLE = 1_000_000


class Op(IntEnum):
    """What a limit of a check does to its key. All but TAKE always fit.

    - TAKE: `cost` tokens if they fit into the bucket as `wait_us` widens or narrows it.
    - GIVE: gives back `cost` tokens, of a bucket `wait_us` microseconds at most (what of the charge
      has not drained yet), of a quota only in its window number `wait_us`. Never below nothing.
    - RAISE: the debt is `cost` tokens and `wait_us` at least.
    - PENALIZE: takes `cost` tokens whether they fit or not, up to a debt of the bucket as `wait_us`
      widens it. Never lowers.
    - RESET: forgets what was spent, of a quota in both windows.
    """

    TAKE = 0
    GIVE = 1
    RAISE = 2
    PENALIZE = 3
    RESET = 4


TAKE = Op.TAKE


class Pin(IntEnum):
    """Whether a key is always decided in Postgres, and whether it may be decided nowhere else.

    - SMALL: in a bucket this small, what a switch may lose would show.
    - STRICT: nothing is given out that is not durably recorded; nobody decides while Postgres is
      away.
    """

    NONE = 0
    SMALL = 1
    STRICT = 2


NONE = Pin.NONE


@value
class Pace:
    """A token every `t_us`, as many at once as `tau_us` holds; `version` orders the changes."""

    t_us: int
    tau_us: int
    version: int

    @property
    def burst(self) -> int:
        return self.tau_us // self.t_us


@value
class Window:
    """A quota's window as the asker's clock has it: its number and its ends on the calendar, whole
    seconds long. `next_us`: how long the one after it is. The store's clock has the last word on
    which window it is. `sliding`: the window before weighs by what is left of this one."""

    number: int
    start_us: int
    end_us: int
    next_us: int
    sliding: bool = False

    @property
    def length_us(self) -> int:
        return self.end_us - self.start_us


@value
class RateLimitRecord:
    """What a store keeps of a key: when it is full again, and the pace that it was counted in."""

    tat_us: int
    pace: Pace


@value
class QuotaRecord:
    """What a store keeps of a quota: used in the window `number`, and in the one before."""

    number: int
    used: int
    before: int
    pace: Pace


Record = RateLimitRecord | QuotaRecord


@value
class Limit:
    """One key of a check. `wait_us` widens the bucket for a reservation, narrows it for a floor
    (of a quota in tokens); what it is for another `op` is said there. `opens_after_s`: once no
    store has answered for so long, it is judged and refuses nothing."""

    key: str
    pace: Pace
    cost: int
    wait_us: int = 0
    shadow: bool = False
    op: Op = TAKE
    window: Window | None = None
    pin: Pin = NONE
    opens_after_s: float | None = None


@value
class Ask:
    """Limits that pass together or not at all. A peek takes nothing."""

    limits: tuple[Limit, ...]
    peek: bool = False


@value
class Span:
    """Where a quota stands in time: the number of its window, what was used in the one before and
    what that weighs now, for how long this one lasts yet and how long it is."""

    number: int
    before: int
    weight: int
    left_us: int
    length_us: int

    @property
    def lives_us(self) -> int:
        """For how long what was used matters: to the end of the next window, however long."""
        return self.left_us + 2 * self.length_us


@value
class Level:
    """What a key owed when it was its turn, and the pace that it was judged by. Of a quota the debt
    is what was used in this window and what the one before weighs."""

    debt_us: int
    pace: Pace
    span: Span | None = None

    @property
    def used(self) -> int:
        """Of a quota: in this window."""
        return self.debt_us - (self.span.weight if self.span else 0)

    def over_us(self, cost: int) -> int:
        """How long until `cost` fits; not above zero when it fits now. Of a quota: by how many
        tokens it does not."""
        return self.debt_us + cost * self.pace.t_us - self.pace.tau_us

    def fits(self, limit: Limit) -> bool:
        if limit.op is not TAKE:
            return True
        return limit.cost <= self.pace.burst and self.over_us(limit.cost) <= limit.wait_us

    def after(self, limit: Limit) -> "Level":
        """The level that `limit` leaves behind, given that it passes."""
        if limit.op is TAKE:
            return Level(self.debt_us + limit.cost * self.pace.t_us, self.pace, self.span)
        if limit.op is Op.RESET:
            return Level(0, self.pace, self.span and _emptied(self.span))
        return Level(_moved(self, limit), self.pace, self.span)


@value
class Verdict:
    """A level for each limit of the ask, as it was before the ask took anything from it."""

    passed: bool
    levels: tuple[Level, ...]


class Batch:
    """Checks in order, and each of their keys once, at the newest pace that any of them brings."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = asks
        self.paces: dict[str, Pace] = {}
        self.windows: dict[str, Window] = {}
        self.written: set[str] = set()
        self.has_ops = False
        for ask in asks:
            for limit in ask.limits:
                self._meet(limit, written=not ask.peek)
        self.size = sum(len(ask.limits) for ask in asks)
        self.keys = list(self.paces)
        self.index = {key: number for number, key in enumerate(self.keys)}

    def _meet(self, limit: Limit, *, written: bool) -> None:
        known = self.paces.get(limit.key)
        if known is None or known.version < limit.pace.version:
            self.paces[limit.key] = limit.pace
            if limit.window is not None:
                self.windows[limit.key] = limit.window
        if limit.op is not TAKE:
            self.has_ops = True
        if written:
            self.written.add(limit.key)


def converted(debt_us: int, *, old: Pace, new: Pace) -> int:
    """The same number of tokens at another pace: a changed policy forgives nothing, and nobody
    owes more than the new bucket holds."""
    tokens = -(-debt_us // old.t_us)
    return min(tokens, new.burst) * new.t_us


def level(record: Record | None, pace: Pace, now_us: int, window: Window | None = None) -> Level:
    """An older record is converted; a newer one is right, and the asker behind the times."""
    if window is not None:
        return _quota_level(record, pace, now_us, window)
    if not isinstance(record, RateLimitRecord):
        return Level(0, pace)
    ceiling = record.pace.tau_us + MAX_WAIT_US
    debt_us = min(max(record.tat_us - now_us, 0), ceiling)
    if record.pace.version >= pace.version:
        return Level(debt_us, record.pace)
    return Level(converted(debt_us, old=record.pace, new=pace), pace)


def _quota_level(record: Record | None, pace: Pace, now_us: int, window: Window) -> Level:
    """A record one window ahead stays in force: a clock that lags behind the one that opened it
    must not open the old one again. What is further away counts for nothing."""
    shift = (now_us - window.start_us) // window.length_us
    number = window.number + shift
    end_us = window.start_us + (shift + 1) * window.length_us
    used = before = 0
    if isinstance(record, QuotaRecord):
        if record.pace.version >= pace.version:
            pace = record.pace
        if record.number == number + 1:
            number, end_us = number + 1, end_us + window.length_us
        if record.number == number:
            used, before = record.used, record.before
        elif record.number == number - 1:
            before = record.used
    left_us = end_us - now_us
    weight = weighed(before, left_us, window)
    return Level(used + weight, pace, Span(number, before, weight, left_us, window.length_us))


def weighed(before: int, left_us: int, window: Window) -> int:
    """What the window before counts for now, rounded up."""
    if not window.sliding:
        return 0
    share = min(-(-left_us // (window.length_us // WHOLE)), WHOLE)
    return -(-before * share // WHOLE)


def aged(found: Level, age_us: int, window: Window | None) -> Level | None:
    """The same level later, if nobody took from it meanwhile; None past the end of its window."""
    span = found.span
    if span is None or window is None:
        return Level(max(found.debt_us - age_us, 0), found.pace)
    left_us = span.left_us - age_us
    if left_us <= 0:
        return None
    weight = weighed(span.before, left_us, window)
    later = Span(span.number, span.before, weight, left_us, span.length_us)
    return Level(found.used + weight, found.pace, later)


def span(answered: Sequence[int], window: Window) -> Span:
    """As the stores answer it: number, before, weight, left."""
    number, before, weight, left_us = answered
    return Span(number, before, weight, left_us, window.length_us)


def _emptied(span: Span) -> Span:
    return Span(span.number, 0, 0, span.left_us, span.length_us)


def _moved(found: Level, limit: Limit) -> int:
    """The debt after a limit that gives, raises or penalizes. No product exceeds what it can
    matter for, so that none is too large for a double."""
    debt_us, pace, span = found.debt_us, found.pace, found.span
    t_us, wait_us = pace.t_us, limit.wait_us
    if limit.op is Op.GIVE:
        if span is not None:
            given = limit.cost if wait_us == span.number else 0
            return max(debt_us - given, span.weight)
        return max(debt_us - min(min(limit.cost, wait_us // t_us + 1) * t_us, wait_us), 0)
    if limit.op is Op.RAISE:
        least_us = min(limit.cost, pace.burst) * t_us + wait_us
        return max(debt_us, min(least_us, pace.tau_us + MAX_WAIT_US))
    ceiling_us = pace.tau_us + wait_us
    taken_us = min(limit.cost, ceiling_us // t_us + 1) * t_us
    return max(debt_us, min(debt_us + taken_us, ceiling_us))


def judge(ask: Ask, levels: dict[str, Level]) -> Verdict:
    """Decide one check and take what it costs from `levels`, all of it or nothing."""
    taken: dict[str, Level] = {}
    seen: list[Level] = []
    passed = True
    for limit in ask.limits:
        found = taken.get(limit.key) or levels[limit.key]
        seen.append(found)
        if found.fits(limit):
            taken[limit.key] = found.after(limit)
        elif not limit.shadow:
            passed = False
    if passed and not ask.peek:
        levels.update(taken)
    return Verdict(passed, tuple(seen))


def decide(
    batch: Batch, records: Mapping[str, Record], now_us: int
) -> tuple[list[Verdict], dict[str, Record]]:
    """Verdicts in order, and the records that have changed."""
    windows = batch.windows
    levels = {
        key: level(records.get(key), pace, now_us, windows.get(key))
        for key, pace in batch.paces.items()
    }
    before = dict(levels)
    verdicts = [judge(ask, levels) for ask in batch.asks]
    return verdicts, dict(_changed(before, levels, now_us))


def _changed(
    before: Mapping[str, Level], after: Mapping[str, Level], now_us: int
) -> Iterable[tuple[str, Record]]:
    for key, found in after.items():
        if found is not before[key]:
            yield key, recorded(found, now_us)


def recorded(found: Level, now_us: int) -> Record:
    span = found.span
    if span is None:
        return RateLimitRecord(now_us + found.debt_us, found.pace)
    return QuotaRecord(span.number, found.used, span.before, found.pace)
