"""Denials that are still true: an attack on a key that is over its limit costs no store anything.

What is kept is the debt and the moment it was seen, never "denied": debts only fall with time, so
the same arithmetic says for any cost, floor or wait whether a check can pass by now, and when.
Whatever may have lowered a debt otherwise (a refund, an observation, a reset, another policy,
another decider) makes it forgotten; what is done elsewhere is noticed within `TTL_SHARED_S`.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from chassis.kernel.values import value
from contracts.ratelimits import Backend
from ratelimit_service.core import gcra
from ratelimit_service.core.gcra import TAKE
from ratelimit_service.core.switch import Ruling

CAPACITY = 50_000
TTL_S = 1.0
TTL_SHARED_S = 0.25
LOCAL = Backend.LOCAL

Rule = Callable[[Sequence[gcra.Ask]], Awaitable[list[Ruling]]]


@value
class _Seen:
    """A level as a store said it at `at_us`, to somebody who asked at the pace `asked`."""

    level: gcra.Level
    asked: gcra.Pace
    at_us: int
    backend: Backend


class Denials:
    """In front of `rule`. `era` changes with the decider; `replicas` are those that decide beside
    us, ourselves included; `counted` is told how many asks were answered without a store."""

    def __init__(
        self,
        rule: Rule,
        *,
        monotonic: Callable[[], float],
        era: Callable[[], int],
        replicas: Callable[[], int],
        counted: Callable[[int], None] = lambda _asks: None,
        capacity: int = CAPACITY,
    ) -> None:
        self._rule = rule
        self._monotonic = monotonic
        self._era = era
        self._replicas = replicas
        self._counted = counted
        self._capacity = capacity
        self._seen: dict[str, _Seen] = {}
        self._of_era = era()
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._seen)

    async def __call__(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        """As `rule`, which is asked for what is not known."""
        if self._of_era != self._era():
            self.forget_all()
        known = self._known(asks) if self._seen else None
        if known is None:
            return await self._asked(asks)
        rest = [ask for ask, ruling in zip(asks, known, strict=True) if ruling is None]
        self._counted(len(asks) - len(rest))
        ruled = iter(await self._asked(rest) if rest else ())
        return [next(ruled) if ruling is None else ruling for ruling in known]

    def forget(self, keys: Iterable[str]) -> None:
        """Their debts may be less than was seen, also by asks that are on their way."""
        self._forgotten += 1
        for key in keys:
            self._seen.pop(key, None)

    def forget_all(self) -> None:
        self._forgotten += 1
        self._of_era = self._era()
        self._seen.clear()

    async def _asked(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        era, forgotten = self._of_era, self._forgotten
        try:
            rulings = await self._rule(asks)
        finally:
            # Also when nobody knows whether it was done.
            if moved := [e.key for ask in asks for e in ask.limits if e.op is not TAKE]:
                self.forget(moved)
        for ask, ruling in zip(asks, rulings, strict=True):
            if ruling.verdict.passed or ruling.backend is LOCAL:
                continue
            if era == self._era() and forgotten == self._forgotten:
                self._keep(ask, ruling)
        return rulings

    def _known(self, asks: Sequence[gcra.Ask]) -> list[Ruling | None] | None:
        """A ruling for each ask that is certain to be refused; None when there are none."""
        now_us = self._now_us()
        fresh_us = now_us - int(self._ttl_s() * 1_000_000)
        known = [self._refusal(ask, now_us, fresh_us) for ask in asks]
        return known if any(known) else None

    def _refusal(self, ask: gcra.Ask, now_us: int, fresh_us: int) -> Ruling | None:
        if ask.peek:
            return None
        levels: list[gcra.Level] = []
        backend: Backend | None = None
        for limit in ask.limits:
            seen = self._seen.get(limit.key)
            if seen is None or seen.at_us < fresh_us or seen.asked != limit.pace:
                return None
            level = gcra.aged(seen.level, now_us - seen.at_us, limit.window)
            if level is None:
                return None
            levels.append(level)
            if not (limit.shadow or level.fits(limit)):
                backend = seen.backend
        if backend is None:
            return None
        return Ruling(gcra.Verdict(False, tuple(levels)), backend)

    def _keep(self, ask: gcra.Ask, ruling: Ruling) -> None:
        """Of a key that is named twice the first level is the true one: the second counts what the
        first would have taken."""
        now_us = self._now_us()
        pairs = list(zip(ask.limits, ruling.verdict.levels, strict=True))
        for limit, level in reversed(pairs):
            self._seen.pop(limit.key, None)
            self._seen[limit.key] = _Seen(level, limit.pace, now_us, ruling.backend)
            self._make_room(now_us)

    def _make_room(self, now_us: int) -> None:
        """The oldest come first. One comes in, so two may leave: nothing stays for long."""
        stale_us = now_us - int(TTL_S * 1_000_000)
        for _ in range(2):
            key, seen = next(iter(self._seen.items()))
            if seen.at_us >= stale_us and len(self._seen) <= self._capacity:
                return
            del self._seen[key]

    def _ttl_s(self) -> float:
        return TTL_S if self._replicas() <= 1 else TTL_SHARED_S

    def _now_us(self) -> int:
        return int(self._monotonic() * 1_000_000)
