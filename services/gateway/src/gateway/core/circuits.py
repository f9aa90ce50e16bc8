"""The circuits of this gateway: what became of them, and what operators have said.

Each gateway goes by what it sees itself. An operator's word alone holds for all of them: it is kept
in the database, told to the others, read again every few seconds, and over by itself, also while
the database is away. Changes are told once they can be written down.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from chassis.kernel import errors, ids
from chassis.kernel.breaker import Breaker, State, Why
from chassis.kernel.clock import Clock, rfc3339
from chassis.kernel.values import value
from contracts import events
from contracts.gateway import CircuitMode
from gateway.core import ports

PINNED = {CircuitMode.FORCE_OPEN: State.OPEN, CircuitMode.FORCE_CLOSED: State.CLOSED}
SHOWN = 50
# A night without a database.
KEPT_UNTOLD = 1_000

Signals = Callable[[str], Mapping[str, str | None]]


@value
class Override:
    """An operator's word. `left_s` and `until` say when it runs out, by the database's clock."""

    upstream: str
    mode: CircuitMode
    reason: str
    by: str
    left_s: float
    until: datetime


@value
class Change:
    """Of one gateway's circuit, or with `mode` an operator's word."""

    id: UUID
    at: datetime
    upstream: str
    gateway: str
    old: State
    state: State
    why: Why
    mode: CircuitMode | None = None
    until: datetime | None = None
    reason: str | None = None
    by: str | None = None

    def said(self) -> dict[str, Any]:
        return events.CircuitChanged(
            upstream=self.upstream,
            gateway=self.gateway,
            old=self.old.value,
            state=self.state.value,
            why=self.why.value,
            mode=self.mode.value if self.mode is not None else None,
            until=self.until,
            reason=self.reason,
            by=self.by,
        ).model_dump(mode="json")

    def event(self) -> dict[str, Any]:
        return events.Envelope(
            id=self.id,
            source="gateway",
            type=events.CIRCUIT_CHANGED,
            time=self.at,
            subject=self.upstream,
            data=self.said(),
        ).model_dump(mode="json")


class CircuitStore(Protocol):
    """All raise Unavailable."""

    async def override(
        self, upstream: str, mode: CircuitMode, *, for_s: float, reason: str, by: str
    ) -> None:
        """`auto` takes back what is there."""
        ...

    async def overrides(self) -> list[Override]: ...

    async def record(self, changes: Sequence[Change]) -> None:
        """Each once, however often."""
        ...

    async def newest(self, limit: int) -> list[Change]: ...


class Circuits:
    """`gateway` is this one's name among its replicas."""

    def __init__(
        self, *, store: CircuitStore, log: ports.EventLog, gateway: str, clock: Clock
    ) -> None:
        self._store = store
        self._log = log
        self._gateway = gateway
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}
        self._states: dict[str, tuple[State, datetime]] = {}
        self._overrides: dict[str, Override] = {}
        self._untold: deque[Change] = deque(maxlen=KEPT_UNTOLD)
        self._told: list[Change] = []
        self._turn = asyncio.Lock()
        self.has_news: Callable[[], None] = lambda: None

    def watch(self, breaker: Breaker) -> None:
        self._breakers[breaker.name] = breaker
        self._states[breaker.name] = (State.CLOSED, self._clock.now())

    def changed(self, upstream: str, state: State) -> None:
        """A circuit's `on_change`."""
        old, now = self._states[upstream][0], self._clock.now()
        self._states[upstream] = (state, now)
        self._note(upstream, old, self._breakers[upstream].why)

    async def override(
        self, upstream: str, mode: CircuitMode, *, for_s: float, reason: str, by: str
    ) -> None:
        """It holds here when this returns, and at the others a moment later."""
        if upstream not in self._breakers:
            raise errors.NotFound(f"there is no service {upstream} behind this gateway")
        await self._store.override(upstream, mode, for_s=for_s, reason=reason, by=by)
        old = self._breakers[upstream].state
        await self.refresh()
        held = self._overrides.get(upstream)
        self._note(
            upstream, old, Why.OPERATOR, mode=mode, until=held and held.until, reason=reason, by=by
        )

    async def refresh(self) -> None:
        """What operators have said, and what the others tell. One after another: an answer from
        before a change must not come down on one from after it."""
        async with self._turn:
            found = {each.upstream: each for each in await self._store.overrides()}
            for name, breaker in self._breakers.items():
                _obey(breaker, found.get(name))
            self._overrides = found
            self._told = await self._store.newest(SHOWN)

    async def tell_others(self) -> None:
        """What has changed here goes into the database, and into the log of events."""
        while self._untold:
            changes = list(self._untold)
            await self._store.record(changes)
            await self._log.append([each.event() for each in changes])
            done = {each.id for each in changes}
            left = [each for each in self._untold if each.id not in done]
            self._untold = deque(left, maxlen=KEPT_UNTOLD)

    def modes(self) -> dict[str, CircuitMode]:
        held = self._overrides
        return {
            name: held[name].mode if name in held else CircuitMode.AUTO for name in self._breakers
        }

    def tell(self, signals: Signals) -> dict[str, Any]:
        """For /v1/system. `signals`: what probes say of a service."""
        known = {each.id: each for each in [*self._told, *self._untold]}
        newest = sorted(known.values(), key=lambda each: each.at, reverse=True)[:SHOWN]
        return {
            "circuits": {
                name: self._shown(breaker, signals(name))
                for name, breaker in self._breakers.items()
            },
            "circuit_changes": [{"at": rfc3339(each.at), **each.said()} for each in newest],
        }

    def _note(self, upstream: str, old: State, why: Why, **said: Any) -> None:
        change = Change(
            id=ids.new_id(),
            at=self._clock.now(),
            upstream=upstream,
            gateway=self._gateway,
            old=old,
            state=self._states[upstream][0],
            why=why,
            **said,
        )
        self._untold.append(change)
        self.has_news()

    def _shown(self, breaker: Breaker, signals: Mapping[str, str | None]) -> dict[str, Any]:
        state, traffic = breaker.state, breaker.traffic
        held = self._overrides.get(breaker.name)
        if held is not None and held.until <= self._clock.now():
            held = None
        return {
            "state": state.value,
            "why": breaker.why.value,
            "since": rfc3339(self._states[breaker.name][1]),
            "mode": held.mode if held is not None else CircuitMode.AUTO,
            "until": rfc3339(held.until) if held is not None else None,
            "reason": held.reason if held is not None else None,
            "by": held.by if held is not None else None,
            "signals": {
                **signals,
                "calls": round(traffic.calls, 1),
                "success": round(1 - traffic.failures / traffic.calls, 3)
                if traffic.calls >= 1
                else None,
            },
        }


def _obey(breaker: Breaker, override: Override | None) -> None:
    if override is None:
        breaker.unpin()
    else:
        breaker.pin(PINNED[override.mode], for_s=override.left_s)
