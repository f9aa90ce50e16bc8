"""Calls to an upstream that counts what they cost, at the pace that it allows.

    pace = Pace(ctx, "shopify-gql", shop=shop)
    async with pace.call(cost=50) as call:
        answer = await post(query)
        call.told(answer)

The cost is reserved before the call and waited for; what the call did not cost is given back after
it, and what the upstream said of its own bucket is passed on. Of a
handler's `Context`, or of a `Client`.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, Unpack

from mainstay import errors, limits
from mainstay.client import Client
from mainstay.handler import Reservation, Unavailable

MAX_WAIT_MS = 10_000
THROTTLED = "THROTTLED"


class NotNow(Exception):
    """Nothing was taken and nothing called: ask again after `retry_after_s`, or never (None), as
    the cost is more than the limit ever holds."""

    def __init__(self, policy: str, retry_after_s: float | None) -> None:
        self.retry_after_s = retry_after_s
        when = "ever" if retry_after_s is None else f"for {retry_after_s:g} s"
        super().__init__(f"{policy} does not allow it {when}")


class Paced(Protocol):
    """What a pace is kept by."""

    async def reserve(
        self, policy: str, *, shop: str | None, cost: int, max_wait_ms: int
    ) -> Reservation: ...

    async def refund(self, slot: Reservation, cost: int | None = None) -> int: ...

    async def observe(
        self, policy: str, *, shop: str | None = None, **told: Unpack[limits.Observed]
    ) -> None: ...


class Call:
    """A call that may be made now, and what came of it."""

    def __init__(self, cost: int) -> None:
        self.reserved = cost
        self.unused = 0
        self.observed: limits.Observed | None = None
        self._at = time.monotonic()

    def not_sent(self) -> None:
        """The call did not reach the upstream: all of its cost comes back."""
        self.unused = self.reserved

    def told(self, answer: Mapping[str, Any]) -> None:
        """A GraphQL answer, whatever its status: its `extensions.cost` says what the call cost and
        how the bucket stands. One that was refused as THROTTLED cost nothing; one that says nothing
        of its cost leaves what was reserved as it is."""
        cost = _within(_within(answer, "extensions"), "cost")
        actual = _number(cost.get("actualQueryCost"))
        if is_throttled(answer):
            self.not_sent()
        elif actual is not None:
            self.unused = max(0, self.reserved - math.ceil(actual))
        if status := _within(cost, "throttleStatus"):
            self.bucket(
                available=_number(status.get("currentlyAvailable")),
                maximum=_number(status.get("maximumAvailable")),
                restore_rate=_number(status.get("restoreRate")),
            )

    def bucket(
        self,
        *,
        available: float | None = None,
        maximum: float | None = None,
        restore_rate: float | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        """What the upstream said of its bucket, now."""
        self._at = time.monotonic()
        self.observed = {
            "available": available,
            "maximum": maximum,
            "restore_rate": restore_rate,
            "retry_after_ms": retry_after_ms,
        }

    @property
    def age_ms(self) -> int:
        return int((time.monotonic() - self._at) * 1000)


class Pace:
    """The calls of one shop. `max_wait_ms`: how far ahead a slot may lie."""

    def __init__(
        self, by: Paced | Client, policy: str, *, shop: str, max_wait_ms: int = MAX_WAIT_MS
    ) -> None:
        self._by = paced_by(by)
        self._policy = policy
        self._shop = shop
        self._max_wait_ms = max_wait_ms

    @asynccontextmanager
    async def call(self, *, cost: int) -> AsyncIterator[Call]:
        """Wait for the slot, then run the block. Raises `NotNow`, and `Unavailable` when no limiter
        answers. A block that is cancelled before it began gives everything back; one that fails
        without a word keeps what was reserved, as the call may have been made."""
        slot = await self._by.reserve(
            self._policy, shop=self._shop, cost=cost, max_wait_ms=self._max_wait_ms
        )
        if not slot.allowed:
            raise NotNow(self._policy, None if slot.unsatisfiable else slot.wait_ms / 1000)
        call = Call(cost)
        call.not_sent()
        try:
            await asyncio.sleep(slot.wait_ms / 1000)
            call.unused = 0
            yield call
        finally:
            await asyncio.shield(self._settle(slot, call))

    async def _settle(self, slot: Reservation, call: Call) -> None:
        """The refund first: what was observed may only raise what is thought to be spent."""
        if call.unused > 0:
            await self._by.refund(slot, call.unused)
        if call.observed is not None:
            call.observed["age_ms"] = call.age_ms
            await self._by.observe(self._policy, shop=self._shop, **call.observed)


class _OfClient:
    """A client, as forgiving as a context."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def reserve(
        self, policy: str, *, shop: str | None, cost: int, max_wait_ms: int
    ) -> Reservation:
        try:
            told = await self._client.reserve(policy, shop=shop, cost=cost, max_wait_ms=max_wait_ms)
        except errors.Unavailable as error:
            raise Unavailable(error.detail) from error
        return Reservation.of(told)

    async def refund(self, slot: Reservation, cost: int | None = None) -> int:
        if slot.token is None:
            return 0
        try:
            return await self._client.refund(slot.token, cost)
        except errors.ApiError:
            return 0

    async def observe(
        self, policy: str, *, shop: str | None = None, **told: Unpack[limits.Observed]
    ) -> None:
        if shop is None:
            return
        try:
            await self._client.observe(policy, shop=shop, **told)
        except errors.ApiError:
            return


def paced_by(by: Paced | Client) -> Paced:
    return _OfClient(by) if isinstance(by, Client) else by


def is_throttled(answer: Mapping[str, Any]) -> bool:
    """Was the query refused for its cost? The body says so, whatever the status."""
    said = answer.get("errors")
    return isinstance(said, list) and any(
        isinstance(one, Mapping) and _within(one, "extensions").get("code") == THROTTLED
        for one in said
    )


def _within(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
