"""Who asks for how much: counts per shop, policy and minute, and samples of what was denied.

Only shops that somebody vouches for are counted, under policies that count by shop. Counts leave in
flushes: each has a number, and one whose answer was lost is sent again as it was, so that it is
added once.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from chassis.kernel import ids
from contracts import events
from contracts.ratelimits import Backend, ShopCount
from ratelimit_service.core import gcra
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.sketch import Sketch

# Rows between two flushes, and while the database is away.
CAPACITY = 10_000
MAX_DENIALS = 500
# How the keys of shops that somebody vouches for begin.
SHOP_KEY = "{s:"


class Judged(Protocol):
    """A limit after its check."""

    @property
    def policy(self) -> Policy: ...
    @property
    def limit(self) -> gcra.Limit: ...
    @property
    def violated(self) -> bool: ...


@dataclass(slots=True)
class Row:
    """`minute`: minutes since 1970. `cost`: what was asked for, in the policy's unit."""

    minute: int
    shop: str
    policy: str
    allowed: int = 0
    denied: int = 0
    shadow_denied: int = 0
    cost: int = 0
    handicap: int = 0

    @property
    def count(self) -> int:
        return self.allowed + self.denied + self.shadow_denied

    @property
    def begins_at(self) -> datetime:
        return datetime.fromtimestamp(self.minute * 60, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """The first of a shop's denials in a second."""

    shop: str
    second: int
    policy: str
    backend: Backend

    def event(self) -> events.Envelope:
        """The same id on every replica: one event for a shop and second."""
        return events.Envelope(
            id=ids.derived_id("event", events.STORE_DENIED, self.shop, str(self.second)),
            source="ratelimit-service",
            type=events.STORE_DENIED,
            time=datetime.fromtimestamp(self.second, UTC),
            subject=self.shop,
            shop=self.shop,
            data=events.StoreDenied(
                shop=self.shop, policy=self.policy, backend=self.backend.value
            ).model_dump(mode="json"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flush:
    """`number` grows by one with each of a replica's flushes."""

    number: int
    rows: Sequence[Row]
    denials: Sequence[Denial]


class UsageStore(Protocol):
    """All raise Unavailable."""

    async def add(self, replica: UUID, flush: Flush) -> None:
        """A flush that was added before changes nothing."""
        ...

    async def top(self, *, by: str, minutes: int, limit: int) -> Sequence[ShopCount]: ...
    async def of_shop(self, shop: str, *, minutes: int) -> Sequence[ShopCount]: ...
    async def began(self, *, minutes: int) -> datetime:
        """The moment so many minutes ago."""
        ...

    async def page(
        self, policy: str, *, since: datetime, after: Row | None, limit: int
    ) -> Sequence[Row]:
        """Rows of a policy by shop and minute, behind one of them."""
        ...


class Usage:
    def __init__(
        self,
        *,
        store: UsageStore,
        replica: UUID,
        capacity: int = CAPACITY,
        on_lost: Callable[[int], None] = lambda _count: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`on_lost`: so many checks were counted for shops that had to make room."""
        self._store = store
        self._replica = replica
        self._capacity = capacity
        self._on_lost = on_lost
        self._now = now
        self._sent = 0
        self._pending: Flush | None = None
        self._begin()

    def note(self, met: Sequence[Judged], backend: Backend) -> None:
        """Of a check that would have taken something."""
        now = 0.0
        for each in met:
            limit = each.limit
            key = limit.key
            if not key.startswith(SHOP_KEY):
                continue
            now = now or self._now()
            minute = int(now) // 60
            row = self._rows.find((minute, key)) or self._new(minute, key, each.policy.id)
            row.cost += limit.cost
            if not each.violated:
                row.allowed += 1
            elif limit.shadow:
                row.shadow_denied += 1
            else:
                row.denied += 1
                self._sample(row, int(now), backend)

    async def flush(self) -> None:
        """Raises Unavailable; what was counted stays."""
        if self._pending is not None:
            await self._send(self._pending)
        if len(self._rows):
            await self._send(self._take())

    @property
    def waiting(self) -> int:
        """Rows that the database does not know."""
        return len(self._rows) + (len(self._pending.rows) if self._pending else 0)

    def _take(self) -> Flush:
        self._sent += 1
        denials = list(self._denials.values())
        self._pending = Flush(number=self._sent, rows=list(self._rows), denials=denials)
        self._begin()
        return self._pending

    async def _send(self, flush: Flush) -> None:
        await self._store.add(self._replica, flush)
        self._pending = None

    def _begin(self) -> None:
        self._rows: Sketch[tuple[int, str], Row] = Sketch(
            self._capacity, pushed_out=lambda row: self._on_lost(row.count)
        )
        self._denials: dict[tuple[str, int], Denial] = {}

    def _new(self, minute: int, key: str, policy: str) -> Row:
        row = Row(minute, key[len(SHOP_KEY) : key.rindex("}")], policy)
        self._rows.put((minute, key), row)
        return row

    def _sample(self, row: Row, second: int, backend: Backend) -> None:
        place = (row.shop, second)
        if place not in self._denials and len(self._denials) < MAX_DENIALS:
            self._denials[place] = Denial(
                shop=row.shop, second=second, policy=row.policy, backend=backend
            )
