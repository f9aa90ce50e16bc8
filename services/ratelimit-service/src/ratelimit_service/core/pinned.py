"""Limits that are always decided in Postgres, beside others that go with the epoch.

An ask that has both is decided in parts, the strictest first. A part that is refused makes the rest
look only; what earlier parts took is given back, exactly: a debt falls as it would have fallen
without the charge. Whoever dies in between has taken and gives back nothing, so a limit refuses a
little more and never less.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from chassis.kernel import errors
from contracts.ratelimits import Backend
from ratelimit_service.core import gcra
from ratelimit_service.core.gcra import NONE, TAKE, Op, Pin
from ratelimit_service.core.switch import Ruling

Rule = Callable[[Sequence[gcra.Ask]], Awaitable[list[Ruling]]]
ORDER = (Pin.STRICT, Pin.SMALL, Pin.NONE)


@dataclass(slots=True)
class _Work:
    """An ask on its way through the parts."""

    ask: gcra.Ask
    passed: bool = True
    levels: dict[int, gcra.Level] = field(default_factory=dict)
    backends: dict[int, Backend] = field(default_factory=dict)
    last: Backend = Backend.POSTGRES

    def part(self, pin: Pin) -> list[int]:
        return [n for n, limit in enumerate(self.ask.limits) if limit.pin is pin]

    def asked(self, places: Sequence[int]) -> gcra.Ask:
        limits = tuple([self.ask.limits[n] for n in places])
        return gcra.Ask(limits, self.ask.peek or not self.passed)

    def ruled(self, places: Sequence[int], ruling: Ruling) -> None:
        self.passed = self.passed and ruling.verdict.passed
        self.last = ruling.backend
        for n, level in zip(places, ruling.verdict.levels, strict=True):
            self.levels[n], self.backends[n] = level, ruling.backend

    def ruling(self) -> Ruling:
        """LOCAL if any part was; then it says which keys a store has decided nevertheless."""
        levels = tuple([self.levels[n] for n in range(len(self.ask.limits))])
        verdict = gcra.Verdict(self.passed, levels)
        if Backend.LOCAL not in self.backends.values():
            return Ruling(verdict, self.last)
        stored = [n for n, backend in self.backends.items() if backend is not Backend.LOCAL]
        keys = frozenset([self.ask.limits[n].key for n in stored])
        return Ruling(verdict, Backend.LOCAL, keys)


class Pinned:
    """In front of the rules for each kind of limit. Raises what they raise; then nothing is
    taken."""

    def __init__(self, *, others: Rule, small: Rule, strict: Rule) -> None:
        self._rules = {Pin.STRICT: strict, Pin.SMALL: small, Pin.NONE: others}

    async def __call__(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        if not _has_pins(asks):
            return await self._rules[NONE](asks)
        works = [_Work(ask) for ask in asks]
        taken: list[tuple[_Work, list[int]]] = []
        try:
            for pin in ORDER:
                await self._decide(pin, works, taken)
        except BaseException:
            await asyncio.shield(self._give_back(taken))
            raise
        refused = [(work, places) for work, places in taken if not work.passed]
        if refused:
            await asyncio.shield(self._give_back(refused))
        return [work.ruling() for work in works]

    async def _decide(
        self, pin: Pin, works: Sequence[_Work], taken: list[tuple[_Work, list[int]]]
    ) -> None:
        parts = [(work, places) for work in works if (places := work.part(pin))]
        if not parts:
            return
        asks = [work.asked(places) for work, places in parts]
        rulings = await self._rules[pin](asks)
        for (work, places), ask, ruling in zip(parts, asks, rulings, strict=True):
            work.ruled(places, ruling)
            if ruling.verdict.passed and not ask.peek:
                taken.append((work, places))

    async def _give_back(self, taken: Sequence[tuple[_Work, list[int]]]) -> None:
        for pin in ORDER:
            asks = [
                gcra.Ask(gifts) for work, places in taken if (gifts := _gifts(work, places, pin))
            ]
            if asks:
                with suppress(errors.Unavailable):
                    await self._rules[pin](asks)


def _has_pins(asks: Sequence[gcra.Ask]) -> bool:
    for ask in asks:
        for limit in ask.limits:
            if limit.pin is not NONE:
                return True
    return False


def _gifts(work: _Work, places: Sequence[int], pin: Pin) -> tuple[gcra.Limit, ...]:
    limits = work.ask.limits
    return tuple(
        [
            _gift(limits[n], work.levels[n])
            for n in places
            if limits[n].pin is pin
            and limits[n].op is TAKE
            and limits[n].cost
            and work.levels[n].fits(limits[n])
        ]
    )


def _gift(limit: gcra.Limit, level: gcra.Level) -> gcra.Limit:
    """What was taken at the pace of `level`, which counts several for one where replicas share."""
    taken_us = limit.cost * level.pace.t_us
    within = taken_us if level.span is None else level.span.number
    tokens = max(limit.cost, taken_us // limit.pace.t_us)
    return gcra.Limit(
        limit.key, limit.pace, tokens, within, op=Op.GIVE, window=limit.window, pin=limit.pin
    )
