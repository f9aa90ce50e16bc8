"""Saturated callers of two replicas while something happens, and what they were given: beside an
ideal bucket, and beside the bound that the service publishes. Every fault has keys of its own."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from testkit import limiters
from testkit.admissions import Admission, excess
from testkit.limit_faults import Fault
from testkit.limiters import PREFIX, Limiters, Replica
from testkit.signals import eventually

# At each replica.
CALLERS, CALLERS_SUDDENLY = 2, 8
BEFORE_S, AFTER_S = 0.7, 0.3
SUDDEN_S = 0.3
SLOW_S, SLOW_FOR_EACH = 1.0, 3
# Intervals are of whole microseconds.
ROUNDING = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A policy and how it is called."""

    spec: Mapping[str, Any]
    burst: int
    per_s: float
    pause_s: float
    is_strict: bool = False
    is_sudden: bool = False
    """Asked for only from a moment before the fault, and by many at once."""
    is_lonely: bool = False
    """Nobody but the first replica is asked."""

    @property
    def callers(self) -> int:
        many = CALLERS_SUDDENLY if self.is_sudden else CALLERS
        return many if self.is_lonely else 2 * many


def _hourly(burst: int) -> dict[str, Any]:
    return {"key": "shop", "rate": "1/h", "burst": burst}


WATCHED: Mapping[str, Watched] = {
    "bucket": Watched(
        spec={"key": "shop", "rate": "50/s", "burst": 100}, burst=100, per_s=50, pause_s=0.015
    ),
    "hourly": Watched(spec=_hourly(300), burst=300, per_s=1 / 3600, pause_s=0.04),
    "sudden": Watched(
        spec=_hourly(400), burst=400, per_s=1 / 3600, pause_s=0.03, is_sudden=True
    ),
    "lonely": Watched(
        spec=_hourly(200), burst=200, per_s=1 / 3600, pause_s=0.03, is_sudden=True, is_lonely=True
    ),
    "quota": Watched(
        spec={"key": "shop", "algorithm": "fixed", "limit": "300/d"},
        burst=300, per_s=0, pause_s=0.04,
    ),
    "small": Watched(
        spec={"key": "shop", "rate": "4/s", "burst": 8},
        burst=8, per_s=4, pause_s=0.03,
    ),
    "strict": Watched(
        spec={"key": "shop", "rate": "50/s", "burst": 100, "consistency": "strict"},
        burst=100, per_s=50, pause_s=0.015, is_strict=True,
    ),
}  # fmt: skip


@dataclass(slots=True)
class Seen:
    """What the callers of one policy were answered; `slow` takes longer than SLOW_S."""

    admitted: list[Admission] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    backends: Counter[str] = field(default_factory=Counter)
    slow: int = 0
    slowest_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One policy under one fault. `ideal`: what a bucket gives out in that time. `excess`: how much
    more than an ideal one in the interval that shows the most."""

    fault: Fault
    policy: str
    admitted: int
    ideal: float
    excess: float
    bound: float
    seen: Seen

    @property
    def broken(self) -> int:
        """Answers that are 5xx."""
        return sum(n for status, n in self.seen.statuses.items() if status >= 500)

    @property
    def _least(self) -> float:
        """Of a replica that decides alone, its part is all that can be had."""
        is_half = WATCHED[self.policy].is_lonely and self.seen.backends["local"]
        return self.fault.least / 2 if is_half else self.fault.least

    @property
    def violations(self) -> list[str]:
        seen, watched = self.seen, WATCHED[self.policy]
        answered, elsewhere = seen.statuses[200], seen.backends.keys() - {"postgres"}
        may_be_broken = self.fault.restarts or (watched.is_strict and self.fault.loses_postgres)
        wrong = {
            "more than the bound": self.excess > self.bound + ROUNDING,
            "needless refusals": self.admitted < self._least * min(self.ideal, answered),
            "5xx": self.broken and not may_be_broken,
            "neither 200 nor 5xx": any(200 < status < 500 for status in seen.statuses),
            "slow": seen.slowest_s > self.fault.slowest_s,
            "slow more than once": seen.slow > SLOW_FOR_EACH * watched.callers,
            "a strict limit decided alone": watched.is_strict and bool(elsewhere),
        }
        return [
            f"{self.fault.name}, {self.policy}: {what}: {self}" for what in wrong if wrong[what]
        ]


class Day:
    """Faults in turn, on one pair of replicas."""

    def __init__(self, field: Limiters, bounds: Mapping[str, Mapping[str, float]]) -> None:
        self._field = field
        self._bounds = bounds
        self._shops = 0

    @classmethod
    async def of(cls, field: Limiters) -> "Day":
        bounds = {}
        for name, watched in WATCHED.items():
            bounds[name] = (await field.put(name, watched.spec))["bound"]
        return cls(field, bounds)

    async def run(self, fault: Fault) -> list[Row]:
        """Ends with everything well again."""
        field = self._field
        if fault.prepare is not None:
            await fault.prepare(field)
        self._shops += 1
        shop = f"shop-{self._shops}"
        seen = {name: Seen() for name in WATCHED if name not in fault.without}
        suddenly = {name: each for name, each in seen.items() if WATCHED[name].is_sudden}
        steadily = {name: each for name, each in seen.items() if name not in suddenly}
        began, switches = limiters.now(), await field.switches()
        async with self._callers(shop, steadily):
            await asyncio.sleep(BEFORE_S)
            async with self._callers(shop, suddenly):
                await eventually(lambda: all(len(each.admitted) > 9 for each in seen.values()))
                await fault.act(field)
                await field.steady()
                await asyncio.sleep(AFTER_S)
        took_s = limiters.now() - began
        switches = await field.switches() - switches
        return [self._row(fault, name, each, took_s, switches) for name, each in seen.items()]

    def _row(self, fault: Fault, name: str, seen: Seen, took_s: float, switches: int) -> Row:
        watched, bound = WATCHED[name], self._bounds[name]
        most = bound["per_switch"] * switches + bound["per_dead_replica"] * fault.dead
        if fault.is_apart or seen.backends["local"]:
            # Published for however many replicas; see `core/bound.py` for how many count.
            most += bound["both_stores_lost"] * (1 - 1 / len(self._field.replicas))
            most += bound["per_second_apart"] * took_s
        return Row(
            fault=fault,
            policy=name,
            admitted=sum(each.cost for each in seen.admitted),
            ideal=watched.burst + watched.per_s * took_s,
            excess=excess(seen.admitted, burst=watched.burst, per_s=watched.per_s),
            bound=most,
            seen=seen,
        )

    @asynccontextmanager
    async def _callers(self, shop: str, seen: Mapping[str, Seen]) -> AsyncIterator[None]:
        tasks = []
        for name, found in seen.items():
            watched = WATCHED[name]
            replicas = self._field.replicas[: 1 if watched.is_lonely else None]
            tasks += [
                asyncio.create_task(self._caller(replica, name, shop, found))
                for replica in replicas
                for _ in range(watched.callers // len(replicas))
            ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if not isinstance(result, asyncio.CancelledError):
                raise AssertionError("a caller has ended") from result

    async def _caller(self, replica: Replica, name: str, shop: str, seen: Seen) -> None:
        watched, url = WATCHED[name], f"{replica.url}{PREFIX}/check"
        asked = {"policies": [name], "subject": {"shop": shop}}
        began = limiters.now()
        while True:
            await self._ask(url, asked, seen)
            is_rushing = watched.is_sudden and limiters.now() - began < SUDDEN_S
            await asyncio.sleep(0 if is_rushing else watched.pause_s)

    async def _ask(self, url: str, asked: Mapping[str, Any], seen: Seen) -> None:
        asked_at = limiters.now()
        try:
            async with self._field.http.post(
                url, json=asked, headers=self._field.headers
            ) as answer:
                decision = await answer.json()
        except aiohttp.ClientError:
            # Its replica is dead. Nobody was told that it passed.
            await asyncio.sleep(0.05)
            return
        answered_at = limiters.now()
        took_s = answered_at - asked_at
        seen.slowest_s = max(seen.slowest_s, took_s)
        seen.slow += took_s > SLOW_S
        seen.statuses[answer.status] += 1
        if answer.status == 200:
            seen.backends[decision["backend"]] += 1
            if decision["allowed"]:
                seen.admitted.append(Admission(asked_at, answered_at))
