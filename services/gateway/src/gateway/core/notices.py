"""What an owner must hear, whether it answers now or not: told again until it has taken it.

Each is idempotent at its owner, so every road may repeat it. Telling returns once somebody keeps
it: the owner itself, a quorum queue, or our own table.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from chassis.kernel import errors
from contracts.commands import ShopVerb
from gateway.core.ports import Road

# Of the second that a webhook may take. The call goes on: who is slow is not broken.
DIRECT_S = 0.25
HEAR_S = 5.0
CLAIM = 50
AWAY_PAUSE_S = 1.0
# An owner that does not know what it is told is older than we are: it will not be for long.
REFUSED_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """A call of `POST /internal/v1/shops/{shop}:{verb}` at its owner; `said` is its body."""

    id: UUID
    owner: str
    shop: str
    verb: ShopVerb
    said: dict[str, Any]


class Ears(Protocol):
    async def hear(self, notice: Notice, *, within_s: float) -> None:
        """The owner has taken it. Unavailable: perhaps not. Another Fault: it refused it."""
        ...


class Bus(Protocol):
    @property
    def is_up(self) -> bool: ...

    async def tell(self, notice: Notice) -> None:
        """Unavailable: it may not be kept."""
        ...


class Table(Protocol):
    """All raise Unavailable."""

    async def keep(self, notices: Sequence[Notice]) -> None: ...

    async def claim(self, limit: int) -> list[Notice]:
        """Those that are due; nobody else gets them for a while."""
        ...

    async def done(self, ids: Collection[UUID]) -> None: ...

    async def later(self, ids: Collection[UUID], *, seconds: float) -> None: ...

    async def count(self) -> tuple[int, float]:
        """How many wait, and the age of the oldest in seconds."""
        ...


class Tell:
    """`fell_back` is told why the straight road was left."""

    def __init__(
        self, *, ears: Ears, bus: Bus | None, table: Table, fell_back: Callable[[str], None]
    ) -> None:
        self._ears = ears
        self._bus = bus
        self._table = table
        self._fell_back = fell_back
        self._speaking: set[asyncio.Task[None]] = set()

    async def __call__(self, notice: Notice) -> Road:
        """Raises Unavailable when every road is shut."""
        try:
            await self._directly(notice)
        except errors.Fault as fault:
            self._fell_back(fault.code)
        else:
            return Road.DIRECT
        if self._bus is not None and self._bus.is_up:
            try:
                await self._bus.tell(notice)
            except errors.Unavailable as error:
                self._fell_back(f"bus_{error.code}")
            else:
                return Road.BUS
        await self._table.keep([notice])
        return Road.SPOOL

    async def close(self) -> None:
        for task in self._speaking:
            task.cancel()
        await asyncio.gather(*self._speaking, return_exceptions=True)

    async def _directly(self, notice: Notice) -> None:
        task = asyncio.create_task(self._ears.hear(notice, within_s=HEAR_S))
        self._speaking.add(task)
        task.add_done_callback(self._spoken)
        done, _ = await asyncio.wait({task}, timeout=DIRECT_S)
        if not done:
            raise errors.Ambiguous(f"{notice.owner} did not answer in time")
        task.result()

    def _spoken(self, task: asyncio.Task[None]) -> None:
        self._speaking.discard(task)
        if not task.cancelled():
            task.exception()  # late ones have nobody to tell


class Retell:
    """What waits in the table, to its owners. A crash in it repeats some."""

    def __init__(self, *, ears: Ears, table: Table) -> None:
        self._ears = ears
        self._table = table

    async def __call__(self) -> bool:
        """One load; True when there may be more."""
        notices = await self._table.claim(CLAIM)
        is_progress = False
        for notice in notices:
            is_progress |= await self._tell(notice)
        return is_progress and len(notices) == CLAIM

    async def count(self) -> tuple[int, float]:
        return await self._table.count()

    async def _tell(self, notice: Notice) -> bool:
        try:
            await self._ears.hear(notice, within_s=HEAR_S)
        except errors.Unavailable:
            await self._table.later([notice.id], seconds=AWAY_PAUSE_S)
        except errors.Fault:
            await self._table.later([notice.id], seconds=REFUSED_PAUSE_S)
        else:
            await self._table.done([notice.id])
            return True
        return False
