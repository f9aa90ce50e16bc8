"""Batches that form by themselves: while one is being decided, the next one gathers.

Nobody waits for a timer. A single check goes at once; under load a batch grows to what arrived
during the last one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import Context

from chassis.kernel import errors
from ratelimit_service.core import gcra
from ratelimit_service.core.switch import Ruling

MAX_LIMITS = 512
# What a few seconds of a stuck store may gather; past that, callers are told.
MAX_WAITING = 50_000

Decide = Callable[[Sequence[gcra.Ask]], Awaitable[list[Ruling]]]
_Place = tuple[Sequence[gcra.Ask], asyncio.Future[list[Ruling]]]


class Batcher:
    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._waiting: deque[_Place] = deque()
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        """The rulings on these, decided in one batch. Raises Unavailable when too many wait."""
        if self._size >= MAX_WAITING:
            raise errors.Unavailable("too many checks are waiting", code="overloaded")
        ruled: asyncio.Future[list[Ruling]] = asyncio.get_running_loop().create_future()
        self._waiting.append((asks, ruled))
        self._size += _limits(asks)
        if self._task is None:
            # Of nobody's context: a batch has many callers, and the deadline of none of them.
            self._task = asyncio.create_task(self._run(), name="batcher", context=Context())
        return await ruled

    async def close(self) -> None:
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._one()
        finally:
            self._task = None

    async def _one(self) -> None:
        places = self._next()
        try:
            rulings = iter(await self._decide([ask for asks, _ in places for ask in asks]))
        except Exception as error:  # noqa: BLE001 - it is the callers' to see
            for _, ruled in places:
                if not ruled.done():
                    ruled.set_exception(error)
            return
        for asks, ruled in places:
            mine = [next(rulings) for _ in asks]
            if not ruled.done():
                ruled.set_result(mine)

    def _next(self) -> list[_Place]:
        places: list[_Place] = []
        size = 0
        while self._waiting:
            more = _limits(self._waiting[0][0])
            if places and size + more > MAX_LIMITS:
                break
            places.append(self._waiting.popleft())
            size += more
        self._size -= size
        return places


def _limits(asks: Sequence[gcra.Ask]) -> int:
    if len(asks) == 1:
        return len(asks[0].limits)
    return sum([len(ask.limits) for ask in asks])


def pieces(asks: Sequence[gcra.Ask]) -> Iterator[Sequence[gcra.Ask]]:
    """In order, each small enough to keep no store busy for long."""
    start = size = 0
    for place, ask in enumerate(asks):
        if size and size + len(ask.limits) > MAX_LIMITS:
            yield asks[start:place]
            start, size = place, 0
        size += len(ask.limits)
    yield asks[start:]
