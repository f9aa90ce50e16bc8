"""Limits in this process, for the time when no limiter answers: a share of what was last seen.

A bucket starts where the last answer left it, divided by the replicas that share it; one that was
never seen starts half full. What is spent here is remembered, to be told when the limiter is back.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from mainstay.limits import LimitState

CAPACITY = 20_000
# What a key that was never seen may have left.
UNSEEN = 0.5

# As it is asked for, and as it is counted.
SubjectKey = tuple[tuple[str, object], ...]
Key = tuple[str, SubjectKey]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, refilled at `per_s`."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Debit:
    """What was spent here of a key and has not drained since."""

    policy: str
    subject: SubjectKey
    cost: int


@dataclass(slots=True)
class _Pace:
    """`limit` tokens per `window_s`. A quota of the calendar (`ends`, by our clock) is full again
    at once; a bucket refills steadily."""

    limit: int
    window_s: float
    shadow: bool = False
    ends: float | None = None

    @classmethod
    def of(cls, state: LimitState, now: float, known: "_Pace | None") -> "_Pace":
        window_s = max(1.0, state.window_s)
        # Of a bucket, one more is free within a token's time.
        token_ms = 1000 * window_s / max(1, state.limit)
        ends = now + state.reset_ms / 1000 if state.reset_ms > token_ms + 1 else None
        if ends is None and known is not None and known.ends is not None:
            ends = known.ends if known.ends > now else now + window_s
        return cls(max(1, state.limit), window_s, state.shadow, ends)


@dataclass(slots=True)
class _Bucket:
    """In tokens: `spent` of our share; `owed` of the whole, with what others had taken before us
    (`seed`)."""

    pace: _Pace
    replicas: int
    at: float
    spent: float
    owed: float = 0.0
    seed: float = 0.0

    @property
    def share(self) -> float:
        return max(1.0, self.pace.limit / self.replicas)

    @property
    def per_s(self) -> float:
        """How fast our share refills."""
        return self.pace.limit / self.pace.window_s / self.replicas

    def at_time(self, now: float) -> "_Bucket":
        """Itself, as of now."""
        pace, gone_s = self.pace, max(0.0, now - self.at)
        self.at = now
        if pace.ends is not None:
            if now < pace.ends:
                return self
            pace.ends += math.ceil((now - pace.ends) / pace.window_s + 1e-9) * pace.window_s
            self.spent = self.owed = self.seed = 0.0
            return self
        back = gone_s * self.per_s
        self.spent = max(0.0, self.spent - back)
        self.owed = max(0.0, self.owed - back * self.replicas)
        self.seed = max(0.0, self.seed - back * self.replicas)
        return self

    def fits(self, cost: int) -> bool:
        """More than our share fits, once nothing is spent: it may be what one request costs."""
        if self.pace.shadow or self.spent + cost <= self.share + 1e-9:
            return True
        return cost <= self.pace.limit and self.spent <= 1e-9

    def take(self, cost: int) -> None:
        self.spent += cost
        self.owed += cost

    def wait_s(self, cost: int) -> float:
        if self.pace.ends is not None:
            return max(0.0, self.pace.ends - self.at)
        return max(0.0, self.spent + min(cost, self.share) - self.share) / self.per_s

    def state(self, policy: str, cost: int, *, fits: bool) -> LimitState:
        return LimitState(
            policy=policy,
            limit=self.pace.limit,
            remaining=max(0, math.floor(self.share - self.spent + 1e-9)),
            reset_ms=0 if self.spent <= 0 else math.ceil(self.wait_s(1) * 1000),
            window_s=math.ceil(self.pace.window_s),
            violated=not fits or (self.pace.shadow and self.spent + cost > self.share),
            shadow=self.pace.shadow,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    limits: tuple[LimitState, ...]
    wait_s: float = 0.0
    unsatisfiable: bool = False


class Buckets:
    """Bounded: past `capacity` the key that was met longest ago is forgotten."""

    def __init__(
        self, *, replicas: int, rates: Mapping[str, Rate], capacity: int = CAPACITY
    ) -> None:
        self._replicas = replicas
        self._capacity = capacity
        self._paces = {
            name: _Pace(rate.burst, rate.burst / rate.per_s) for name, rate in rates.items()
        }
        self._seen: OrderedDict[Key, tuple[float, LimitState]] = OrderedDict()
        self._buckets: OrderedDict[Key, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen) + len(self._buckets)

    def see(self, subject: SubjectKey, states: Iterable[LimitState], now: float) -> None:
        """What the limiter said; it is right, whatever was thought here."""
        for state in states:
            self._keep(self._seen, (state.policy, subject), (now, state))
            self._paces[state.policy] = _Pace.of(state, now, self._paces.get(state.policy))

    def take(
        self,
        policies: Iterable[str],
        subject: SubjectKey,
        cost: int,
        now: float,
    ) -> Verdict:
        """All of them, or nothing. A policy that nobody knows anything of lets pass."""
        found = [
            (policy, bucket)
            for policy in policies
            if (bucket := self._bucket((policy, subject), now)) is not None
        ]
        fits = [bucket.fits(cost) for _, bucket in found]
        allowed = all(fits)
        waits = [
            bucket.wait_s(cost) for (_, bucket), fit in zip(found, fits, strict=True) if not fit
        ]
        vain = any(cost > bucket.pace.limit for _, bucket in found if not bucket.pace.shadow)
        if allowed:
            for _, bucket in found:
                bucket.take(cost)
        states = tuple(
            bucket.state(policy, 0 if allowed else cost, fits=fit)
            for (policy, bucket), fit in zip(found, fits, strict=True)
        )
        return Verdict(allowed, states, max(waits, default=0.0), vain)

    def debits(self, now: float) -> Iterator[Debit]:
        """What is owed, the largest first; each is told once."""
        owing = [
            (key, bucket)
            for key, bucket in self._buckets.items()
            if bucket.at_time(now).owed - bucket.seed > 1e-6
        ]
        for (policy, subject), bucket in sorted(
            owing, key=lambda each: each[1].seed - each[1].owed
        ):
            cost = math.ceil(bucket.owed - bucket.seed - 1e-6)
            bucket.seed = bucket.owed
            yield Debit(policy, subject, cost)

    def put_back(self, debit: Debit) -> None:
        """It could not be told."""
        bucket = self._buckets.get((debit.policy, debit.subject))
        if bucket is not None:
            bucket.seed = max(0.0, bucket.seed - debit.cost)

    def leave(self) -> None:
        """The limiter decides again."""
        self._buckets.clear()

    def _bucket(self, key: Key, now: float) -> _Bucket | None:
        bucket = self._buckets.get(key) or self._new(key, now)
        if bucket is None:
            return None
        self._keep(self._buckets, key, bucket)
        return bucket.at_time(now)

    def _new(self, key: Key, now: float) -> _Bucket | None:
        if (seen := self._seen.get(key)) is not None:
            at, state = seen
            pace = _Pace.of(state, at, self._paces.get(state.policy))
            gone = float(max(0, pace.limit - state.remaining))
            bucket = _Bucket(pace, self._replicas, at, gone / self._replicas, gone, gone)
            bucket.spent = min(bucket.spent, bucket.share)
            return bucket
        known = self._paces.get(key[0])
        if known is None:
            return None
        pace = _Pace(known.limit, known.window_s, known.shadow, known.ends)
        bucket = _Bucket(pace, self._replicas, now, 0.0)
        bucket.spent = max(0.0, min(bucket.share * UNSEEN, bucket.share - 1))
        return bucket

    def _keep(self, kept: OrderedDict[Key, T], key: Key, value: T) -> None:
        kept[key] = value
        kept.move_to_end(key)
        if len(kept) > self._capacity:
            kept.popitem(last=False)
