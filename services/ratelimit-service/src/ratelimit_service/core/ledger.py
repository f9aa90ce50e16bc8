"""What this process last saw of each key: handed to Postgres in small pieces while Redis decides,
and the starting point when neither answers.

The hand-over is the debt itself, not the spending: Postgres keeps the larger one, so that a repeat
changes nothing and several replicas cannot count twice. What a dead replica had not handed over is
less than two shares, `SHARE` of a bucket or one token each: a key that has spent so much more than
Postgres has confirmed is `is_late`, and whoever spends it waits.

What lowers a debt is kept here as well, but no merge lowers what Postgres has: after a GIVE its
copy may stay higher, so that a switch refuses a little more and never less. A RESET is put there
instead of merged, within a moment; what others took meanwhile they hand over with their next piece.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from chassis.kernel.values import value
from ratelimit_service.core import gcra
from ratelimit_service.core.gcra import TAKE

SHARE = 0.1
CAPACITY = 50_000
MAX_HANDOVER = 500
# So many keys with a little each are due as well: what a crash forgets stays bounded in sum.
MAX_WAITING = 5_000
# Postgres commits without waiting for the disk, and a hand-over may be a second late: a crash of it
# forgets nothing older.
FORGETS_US = 2_000_000


@dataclass(slots=True)
class _Seen:
    debt_us: int
    pace: gcra.Pace
    at_us: int
    unsynced: int = 0
    unconfirmed: int = 0
    span: gcra.Span | None = None
    is_reset: bool = False

    def level(self, now_us: int) -> gcra.Level:
        age_us, span = now_us - self.at_us, self.span
        if span is None:
            return gcra.Level(max(self.debt_us - age_us, 0), self.pace)
        left_us = span.left_us - age_us
        span = gcra.Span(span.number, span.before, span.weight, left_us, span.length_us)
        return gcra.Level(self.debt_us, self.pace, span)


@value
class Owed:
    """What Postgres is to know of a key; `is_reset`: even if it knows of more."""

    level: gcra.Level
    is_reset: bool = False


class Ledger:
    def __init__(self, monotonic: Callable[[], float], *, capacity: int = CAPACITY) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._waiting: dict[str, None] = {}
        self._due: dict[str, None] = {}
        self._late: dict[str, None] = {}

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
            if limit.op is not TAKE:
                self._note_moved(limit, level, synced=synced)
            elif limit.cost and level.fits(limit):
                self.put(limit.key, level.after(limit), 0 if synced else limit.cost)

    def _note_moved(self, limit: gcra.Limit, level: gcra.Level, *, synced: bool) -> None:
        after = level.after(limit)
        raised = -((level.debt_us - after.debt_us) // level.pace.t_us)
        self.put(limit.key, after, 0 if synced else max(raised, 0))
        if limit.op is gcra.Op.RESET and not synced:
            self.note_reset(limit.key)

    def note_reset(self, key: str) -> None:
        """What `key` owes by now is all it owes, whatever Postgres knows."""
        self._seen[key].is_reset = True
        self._waiting[key] = self._due[key] = None

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
        seen.span = level.span
        if unsynced:
            seen.unsynced += unsynced
            self._waiting[key] = None
            share = share_of(level.pace.burst)
            if seen.unsynced >= share:
                self._due[key] = None
            if seen.unsynced + seen.unconfirmed >= 2 * share:
                self._late[key] = None

    def last(self, key: str) -> gcra.Level | None:
        """What the key owes by now, as far as this process knows."""
        seen = self._seen.get(key)
        return seen.level(self._now_us()) if seen else None

    def is_late(self, keys: Iterable[str]) -> bool:
        """Has one of them spent more than may be unknown to Postgres?"""
        return bool(self._late) and any(key in self._late for key in keys)

    def doubt(self) -> None:
        """Postgres may have crashed: what it was told last is told again."""
        since_us = self._now_us() - FORGETS_US
        for key in reversed(self._seen):
            if self._seen[key].at_us < since_us:
                break
            self._waiting[key] = None

    def take(self, *, everything: bool = False) -> dict[str, Owed]:
        """A piece to hand over, or nothing. `confirm` it, or `keep` it when that fails."""
        chosen = self._waiting if everything or len(self._waiting) >= MAX_WAITING else self._due
        now_us = self._now_us()
        piece: dict[str, Owed] = {}
        for key in list(chosen):
            if len(piece) == MAX_HANDOVER:
                break
            self._waiting.pop(key, None)
            self._due.pop(key, None)
            owed = self._settled(key, now_us)
            if owed is not None:
                piece[key] = owed
        return piece

    def confirm(self, piece: Mapping[str, Owed]) -> None:
        for key in piece:
            if (seen := self._seen.get(key)) is not None:
                seen.unconfirmed = 0
                if seen.unsynced < 2 * share_of(seen.pace.burst):
                    self._late.pop(key, None)

    def keep(self, piece: Mapping[str, Owed]) -> None:
        for key, owed in piece.items():
            seen = self._seen.get(key)
            if seen is not None:
                seen.is_reset |= owed.is_reset
                seen.unsynced, seen.unconfirmed = seen.unsynced + seen.unconfirmed, 0
                self._waiting[key] = self._due[key] = None

    def _settled(self, key: str, now_us: int) -> Owed | None:
        seen = self._seen.get(key)
        if seen is None:
            return None
        owed = Owed(seen.level(now_us), seen.is_reset)
        if not owed.level.debt_us and not owed.is_reset:
            seen.unsynced = 0
            self._late.pop(key, None)
            return None
        seen.unsynced, seen.unconfirmed, seen.is_reset = 0, seen.unsynced, False
        return owed

    def _forget(self, key: str) -> None:
        self._seen.pop(key, None)
        self._waiting.pop(key, None)
        self._due.pop(key, None)
        self._late.pop(key, None)

    def _now_us(self) -> int:
        return int(self._monotonic() * 1_000_000)


def share_of(burst: int) -> float:
    """What a key may have spent before Postgres is told, in tokens."""
    return max(1, burst * SHARE)
