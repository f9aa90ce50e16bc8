"""Token buckets in this process: GCRA on one integer of microseconds per key.

The last resort of admission and the whole of the failed-authentication limit. Bounded: past
`capacity` the key that was touched longest ago is forgotten.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

CAPACITY = 20_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, refilled at `per_s`."""

    per_s: float
    burst: int

    @property
    def interval_us(self) -> int:
        return round(1_000_000 / self.per_s)

    @property
    def window_s(self) -> int:
        return max(1, math.ceil(self.burst / self.per_s))


@dataclass(frozen=True, slots=True)
class Level:
    """What a bucket says: would one more pass, how many are left, when comes the next."""

    allowed: bool
    remaining: int
    retry_after_s: float


class Buckets:
    def __init__(self, monotonic: Callable[[], float], *, capacity: int = CAPACITY) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        self._tats: OrderedDict[tuple[str, ...], int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tats)

    def peek(self, key: tuple[str, ...], rate: Rate) -> Level:
        """As `take` would answer, without taking."""
        now = self._now()
        base = max(self._tats.get(key, now), now)
        return _level(base, now, rate)

    def take(self, key: tuple[str, ...], rate: Rate) -> Level:
        """One token, if there is one."""
        now = self._now()
        base = max(self._tats.get(key, now), now)
        level = _level(base, now, rate)
        if not level.allowed:
            return level
        self._keep(key, base + rate.interval_us)
        return Level(True, level.remaining - 1, 0.0)

    def _keep(self, key: tuple[str, ...], tat: int) -> None:
        self._tats[key] = tat
        self._tats.move_to_end(key)
        if len(self._tats) > self._capacity:
            self._tats.popitem(last=False)

    def _now(self) -> int:
        return int(self._monotonic() * 1_000_000)


def _level(base: int, now: int, rate: Rate) -> Level:
    room = now + rate.interval_us * rate.burst - base
    remaining = room // rate.interval_us
    if remaining >= 1:
        return Level(True, remaining, 0.0)
    return Level(False, 0, (rate.interval_us - room) / 1_000_000)
