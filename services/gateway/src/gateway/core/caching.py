"""Answers that their caller allows to be a little old: kept in Redis, else in memory.

Concurrent requests for the same thing are one request to the owner. A shelf that is away is a
miss, never an error.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from gateway.core import keys
from gateway.core.ports import Kept, Shelf

MAX_AGE_S = 300
MAX_BYTES = 1024 * 1024
# Jobs, queues and batches are always read fresh; sessions and tokens are nobody's to keep.
NEVER = (
    "/v1/jobs",
    "/v1/queues",
    "/v1/batches",
    "/v1/leases",
    "/v1/sessions",
    "/v1/shops",
    "/v1/token",
    "/v1/session-tokens",
    "/v1/oauth",
    "/v1/events",
)


@dataclass(frozen=True, slots=True)
class Found:
    """`age_s` is None for an answer that its owner gave just now."""

    kept: Kept
    age_s: int | None
    backend: str


class Cached:
    """`counted` is told (backend, result) of each request."""

    def __init__(
        self,
        *,
        shelves: Sequence[Shelf],
        clock: Clock,
        counted: Callable[[str, str], None],
    ) -> None:
        self._shelves = shelves
        self._clock = clock
        self._counted = counted
        self._in_flight: dict[str, asyncio.Future[Kept]] = {}

    async def __call__(
        self, name: str, *, max_age_s: int, fetch: Callable[[], Awaitable[Kept]]
    ) -> Found:
        found, backend = await self._look(name)
        if found is not None:
            age_s = int(self._clock.now().timestamp() - found.stored_at)
            if 0 <= age_s < max_age_s:
                self._counted(backend, "hit")
                return Found(found, age_s, backend)
        self._counted(backend, "miss")
        return Found(await self._fetch_once(name, fetch), None, backend)

    async def _look(self, name: str) -> tuple[Kept | None, str]:
        for shelf in self._shelves:
            try:
                return await shelf.get(name), shelf.backend
            except errors.Unavailable:
                continue
        return None, "none"

    async def _fetch_once(self, name: str, fetch: Callable[[], Awaitable[Kept]]) -> Kept:
        under_way = self._in_flight.get(name)
        if under_way is not None:
            return await asyncio.shield(under_way)
        outcome: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self._in_flight[name] = outcome
        try:
            kept = replace(await fetch(), stored_at=self._clock.now().timestamp())
            await self._keep(name, kept)
            outcome.set_result(kept)
        except BaseException as error:
            # Who waits for us gets the same fault; a cancelled one leaves the others to a repeat.
            is_fault = isinstance(error, errors.Fault)
            outcome.set_exception(error if is_fault else errors.Unavailable("it was broken off"))
            outcome.exception()
            raise
        finally:
            del self._in_flight[name]
        return kept

    async def _keep(self, name: str, kept: Kept) -> None:
        said = {header.lower(): value for header, value in kept.headers}
        private = any(word in said.get("cache-control", "") for word in ("no-store", "private"))
        if kept.status != 200 or private or len(kept.body) > MAX_BYTES:
            return
        for shelf in self._shelves:
            try:
                await shelf.put(name, kept, ttl_s=MAX_AGE_S)
                break
            except errors.Unavailable:
                continue


def name_of(identity: keys.Identity | None, path: str) -> str:
    """What one caller may see is kept apart from what another may."""
    who = [identity.shop, sorted(identity.scopes)] if identity else None
    return hashlib.sha256(orjson.dumps([who, path])).hexdigest()


def max_age_s(path: str, cache_control: str) -> int:
    """The age that the caller allows, 0 for none."""
    if path.startswith(NEVER):
        return 0
    for part in cache_control.lower().split(","):
        name, _, value = part.strip().partition("=")
        if name in ("no-cache", "no-store"):
            return 0
        if name == "max-age" and value.isdigit():
            return min(int(value), MAX_AGE_S)
    return 0
