"""What this process last saw of each key: handed to Postgres in small pieces while Redis decides,
and the starting point when neither answers.

The hand-over is the debt itself, not the spending: Postgres keeps the larger one, so that a repeat
changes nothing and several replicas cannot count twice. What a dead replica had not handed over is
at most `SHARE` of a bucket, or one token.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ratelimit_service.core import gcra

SHARE = 0.1
CAPACITY = 50_000
MAX_HANDOVER = 500
# So many keys with a little each are due as well: what a crash forgets stays bounded in sum.
MAX_WAITING = 5_000


@dataclass(slots=True)
class _Seen:
    debt_us: int
    pace: gcra.Pace
    at_us: int
    unsynced: int = 0

    def level(self, now_us: int) -> gcra.Level:
        return gcra.Level(max(self.debt_us - (now_us - self.at_us), 0), self.pace)


class Ledger:
    def __init__(self, monotonic: Callable[[], float], *, capacity: int = CAPACITY) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._waiting: dict[str, None] = {}
        self._due: dict[str, None] = {}

    @property
    def is_due(self) -> bool:
        return bool(self._due) or len(self._waiting) >= MAX_WAITING

    @property
    def waiting(self) -> int:
        """Keys with something that Postgres does not know."""
        return len(self._waiting)

    def note(self, ask: gcra.Ask, verdict: gcra.Verdict, *, synced: bool) -> None:
        """Remember what a passed check left behind. `synced`: Postgres knows it already."""
        if ask.peek or not verdict.passed:
            return
        for limit, level in zip(ask.limits, verdict.levels, strict=True):
            if limit.cost and level.fits(limit):
                debt_us = level.debt_us + limit.cost * level.pace.t_us
                self.put(limit.key, gcra.Level(debt_us, level.pace), 0 if synced else limit.cost)

    def put(self, key: str, level: gcra.Level, unsynced: int) -> None:
        """`key` owes this now; of it, `unsynced` tokens more than Postgres was told of."""
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(0, level.pace, 0)
            if len(self._seen) > self._capacity:
                self._forget(next(iter(self._seen)))
        else:
            self._seen.move_to_end(key)
        seen.debt_us, seen.pace, seen.at_us = level.debt_us, level.pace, self._now_us()
        if unsynced:
            seen.unsynced += unsynced
            self._waiting[key] = None
            if seen.unsynced >= max(1, level.pace.burst * SHARE):
                self._due[key] = None

    def last(self, key: str) -> gcra.Level | None:
        """What the key owes by now, as far as this process knows."""
        seen = self._seen.get(key)
        return seen.level(self._now_us()) if seen else None

    def take(self, *, everything: bool = False) -> dict[str, gcra.Level]:
        """A piece to hand over, or nothing. Give it back with `keep` when that fails."""
        chosen = self._waiting if everything or len(self._waiting) >= MAX_WAITING else self._due
        now_us = self._now_us()
        piece: dict[str, gcra.Level] = {}
        for key in list(chosen):
            if len(piece) == MAX_HANDOVER:
                break
            self._waiting.pop(key, None)
            self._due.pop(key, None)
            level = self._settled(key, now_us)
            if level is not None:
                piece[key] = level
        return piece

    def keep(self, piece: dict[str, gcra.Level]) -> None:
        for key in piece:
            if key in self._seen:
                self._waiting[key] = self._due[key] = None

    def _settled(self, key: str, now_us: int) -> gcra.Level | None:
        seen = self._seen.get(key)
        if seen is None:
            return None
        seen.unsynced = 0
        level = seen.level(now_us)
        return level if level.debt_us else None

    def _forget(self, key: str) -> None:
        self._seen.pop(key, None)
        self._waiting.pop(key, None)
        self._due.pop(key, None)

    def _now_us(self) -> int:
        return int(self._monotonic() * 1_000_000)
