"""The limiter's arithmetic: GCRA on whole microseconds, for a batch of checks at one moment.

This is the reference. The SQL function and the Lua script compute the same from the same batch,
and a test holds them to it. A bucket is one number, its debt: the time until it is full again.
Debts are relative to the clock of whoever keeps them, so only durations cross clocks. Every number
stays below 2^53, so that Lua's doubles are exact.
"""

from collections.abc import Iterable, Mapping, Sequence

from chassis.kernel.values import value

MAX_TAU_US = 2**52
# A stored debt is never believed beyond the tolerance and the longest wait that is sold: a clock
# that was set back refuses for so long at most.
MAX_WAIT_US = 600_000_000


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
class RateLimitRecord:
    """What a store keeps of a key: when it is full again, and the pace that it was counted in."""

    tat_us: int
    pace: Pace


@value
class Limit:
    """One key of a check. `wait_us` widens the bucket for a reservation, narrows it for a floor."""

    key: str
    pace: Pace
    cost: int
    wait_us: int = 0
    shadow: bool = False


@value
class Ask:
    """Limits that pass together or not at all. A peek takes nothing."""

    limits: tuple[Limit, ...]
    peek: bool = False


@value
class Level:
    """What a key owed when it was its turn, and the pace that it was judged by."""

    debt_us: int
    pace: Pace

    def over_us(self, cost: int) -> int:
        """How long until `cost` fits; not above zero when it fits now."""
        return self.debt_us + cost * self.pace.t_us - self.pace.tau_us

    def fits(self, limit: Limit) -> bool:
        return limit.cost <= self.pace.burst and self.over_us(limit.cost) <= limit.wait_us


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
        self.written: set[str] = set()
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
        if written:
            self.written.add(limit.key)


def converted(debt_us: int, *, old: Pace, new: Pace) -> int:
    """The same number of tokens at another pace: a changed policy forgives nothing, and nobody
    owes more than the new bucket holds."""
    tokens = -(-debt_us // old.t_us)
    return min(tokens, new.burst) * new.t_us


def level(record: RateLimitRecord | None, pace: Pace, now_us: int) -> Level:
    """An older record is converted; a newer one is right, and the asker behind the times."""
    if record is None:
        return Level(0, pace)
    ceiling = record.pace.tau_us + MAX_WAIT_US
    debt_us = min(max(record.tat_us - now_us, 0), ceiling)
    if record.pace.version >= pace.version:
        return Level(debt_us, record.pace)
    return Level(converted(debt_us, old=record.pace, new=pace), pace)


def judge(ask: Ask, levels: dict[str, Level]) -> Verdict:
    """Decide one check and take what it costs from `levels`, all of it or nothing."""
    taken: dict[str, Level] = {}
    seen: list[Level] = []
    passed = True
    for limit in ask.limits:
        found = taken.get(limit.key) or levels[limit.key]
        seen.append(found)
        if found.fits(limit):
            after_us = found.debt_us + limit.cost * found.pace.t_us
            taken[limit.key] = Level(after_us, found.pace)
        elif not limit.shadow:
            passed = False
    if passed and not ask.peek:
        levels.update(taken)
    return Verdict(passed, tuple(seen))


def decide(
    batch: Batch, records: Mapping[str, RateLimitRecord], now_us: int
) -> tuple[list[Verdict], dict[str, RateLimitRecord]]:
    """Verdicts in order, and the records that have changed."""
    levels = {key: level(records.get(key), pace, now_us) for key, pace in batch.paces.items()}
    before = dict(levels)
    verdicts = [judge(ask, levels) for ask in batch.asks]
    return verdicts, dict(_changed(before, levels, now_us))


def _changed(
    before: Mapping[str, Level], after: Mapping[str, Level], now_us: int
) -> Iterable[tuple[str, RateLimitRecord]]:
    for key, found in after.items():
        if found is not before[key]:
            yield key, RateLimitRecord(now_us + found.debt_us, found.pace)
