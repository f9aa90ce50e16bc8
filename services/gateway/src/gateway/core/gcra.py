"""Token buckets in this process: GCRA on one integer of microseconds per key.

What admission falls back to, and the whole of the failed-authentication limit. Bounded, and full
of nobody's fresh buckets: only one that has refilled is forgotten. While there is none, newcomers
of one neighbourhood share a bucket.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from chassis.kernel.values import value
from gateway.core import hops

CAPACITY = 20_000
# How many of the longest untouched are looked at to find one that may be forgotten.
LOOKED_AT = 8
SHARED = 1_024
SECOND_US = 1_000_000

Key = tuple[str, str]


@value
class Pace:
    """A token costs `t_us`, and the bucket holds `tau_us`: microseconds of refilling both."""

    t_us: int
    tau_us: int

    @property
    def burst(self) -> int:
        return self.tau_us // self.t_us

    @property
    def window_s(self) -> int:
        return max(1, -(-self.tau_us // SECOND_US))

    def shared(self, among: int) -> "Pace":
        """One share of `among`: less at once and more slowly, but never less than one token."""
        return Pace(min(self.t_us * among, self.tau_us), self.tau_us)


def pace(*, per_s: float, burst: int) -> Pace:
    """`burst` at once, refilled at `per_s`."""
    t_us = max(1, round(SECOND_US / per_s))
    return Pace(t_us, t_us * burst)


@value
class Level:
    """What a bucket says: would one more pass, how many are left, when comes the next."""

    allowed: bool
    remaining: int
    retry_after_s: float


@dataclass(slots=True)
class Bucket:
    """What it owes has flowed off by `tat_us`; without what was given out here and nobody else
    knows of, by `start_us`. A token costs `t_us`."""

    tat_us: int
    start_us: int
    t_us: int = 1

    def given(self, now: int) -> int:
        """Tokens given out here that have not flowed off."""
        return -(-(max(self.tat_us, now) - max(self.start_us, now)) // self.t_us)

    def told(self, tokens: int, now: int) -> None:
        """Somebody else knows of so many of them."""
        self.start_us = min(max(self.start_us, now) + tokens * self.t_us, self.tat_us)


class Buckets:
    def __init__(self, monotonic: Callable[[], float], *, capacity: int = CAPACITY) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        self._buckets: OrderedDict[Key, Bucket] = OrderedDict()
        self._shared: dict[int, Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets) + len(self._shared)

    def get(self, key: Key) -> Bucket | None:
        return self._buckets.get(key)

    def items(self) -> Iterator[tuple[Key, Bucket]]:
        """Those that belong to one key."""
        return iter(self._buckets.items())

    def peek(self, key: Key, pace: Pace, *, start_us: int = 0) -> Level:
        """As `take` would answer, without taking. A bucket not known yet owes
        what flows off by `start_us`."""
        now = now_us(self._monotonic)
        found = self._find(key, now)
        return level(max(start_us if found is None else found.tat_us, now), now, pace)

    def take(self, key: Key, pace: Pace, *, start_us: int = 0) -> Level:
        """One token, if there is one."""
        now = int(self._monotonic() * SECOND_US)
        known = self._buckets.get(key)
        bucket = known or self._find(key, now) or Bucket(start_us, start_us)
        base = max(now, bucket.tat_us)
        room = now + pace.tau_us - base
        t_us = pace.t_us
        if room < t_us:
            return Level(False, 0, (t_us - room) / SECOND_US)
        bucket.tat_us, bucket.t_us = base + t_us, t_us
        if known is None:
            self._keep(key, bucket)
        else:
            self._buckets.move_to_end(key)
        return Level(True, room // t_us - 1, 0.0)

    def _find(self, key: Key, now: int) -> Bucket | None:
        """Makes room for a key that has no bucket yet, where that can be done."""
        known = self._buckets.get(key)
        if known is not None or self._has_room(now):
            return known
        return self._shared.get(_slot(key))

    def _has_room(self, now: int) -> bool:
        if len(self._buckets) < self._capacity:
            return True
        for _ in range(LOOKED_AT):
            key, bucket = next(iter(self._buckets.items()))
            if bucket.tat_us <= now:
                del self._buckets[key]
                return True
            self._buckets.move_to_end(key)
        return False

    def _keep(self, key: Key, bucket: Bucket) -> None:
        if len(self._buckets) < self._capacity:
            self._buckets[key] = bucket
        else:
            self._shared[_slot(key)] = bucket


def level(base: int, now: int, pace: Pace) -> Level:
    """Of a bucket whose debt flows off by `base`."""
    room = now + pace.tau_us - base
    remaining = room // pace.t_us
    if remaining >= 1:
        return Level(True, remaining, 0.0)
    return Level(False, 0, (pace.t_us - room) / SECOND_US)


def now_us(monotonic: Callable[[], float]) -> int:
    return int(monotonic() * SECOND_US)


def _slot(key: Key) -> int:
    return hash((key[0], hops.neighbourhood(key[1]))) % SHARED
