"""Callers that wait for jobs. At each place the first in line looks, for all behind it.

However many wait, an empty queue costs one look a second; what a hint announces is looked for at
once. Whoever finds something leaves, and the next in line looks.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

T = TypeVar("T")
Place = tuple[str, Hashable]

LOOK_EVERY_S = 1.0


@dataclass(slots=True)
class _Line:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    callers: int = 0


class Parking:
    """A place is (queue, whatever else divides its callers). `on_wait(queue)`: somebody waits now
    where nobody did."""

    def __init__(self) -> None:
        self.on_wait: Callable[[str], None] = lambda _queue: None
        self._lines: dict[Place, _Line] = {}
        self._is_closed = False

    def hint(self, queue: str) -> None:
        """Ready jobs were heard of; "" means any of them may have been missed."""
        for (name, _), line in self._lines.items():
            if queue in ("", name):
                line.heard.set()

    def announce(self, queue: str, _job_ids: Sequence[UUID]) -> None:
        """Jobs that this very process has stored."""
        self.hint(queue)

    def queues(self) -> set[str]:
        """Where somebody waits."""
        return {queue for queue, _ in self._lines}

    def waiting(self) -> int:
        """How many callers there are now."""
        return sum(line.callers for line in self._lines.values())

    def close(self) -> None:
        """Nobody waits any longer."""
        self._is_closed = True
        self.hint("")

    async def wait(
        self,
        place: Place,
        look: Callable[[], Awaitable[Sequence[T]]],
        *,
        wait_s: float,
        is_gone: Callable[[], bool],
    ) -> Sequence[T]:
        """What `look` finds, or nothing after `wait_s`. A look that has begun is never broken off:
        what it found would be lost."""
        until = asyncio.get_running_loop().time() + wait_s
        if place not in self._lines:
            self._lines[place] = _Line()
            self.on_wait(place[0])
        line = self._lines[place]
        line.callers += 1
        try:
            if not await _within(line.turn.acquire(), until):
                return []
            try:
                return await self._look_on(line, look, until=until, is_gone=is_gone)
            finally:
                line.turn.release()
        finally:
            line.callers -= 1
            if not line.callers:
                self._lines.pop(place, None)

    async def _look_on(
        self,
        line: _Line,
        look: Callable[[], Awaitable[Sequence[T]]],
        *,
        until: float,
        is_gone: Callable[[], bool],
    ) -> Sequence[T]:
        clock = asyncio.get_running_loop().time
        while not is_gone():
            line.heard.clear()
            found = await look()
            if found or self._is_closed or clock() >= until:
                return found
            pause_s = LOOK_EVERY_S * random.uniform(0.8, 1.2)
            await _within(line.heard.wait(), min(until, clock() + pause_s))
        return []


async def _within(waiting: Awaitable[object], until: float) -> bool:
    try:
        async with asyncio.timeout_at(until):
            await waiting
    except TimeoutError:
        return False
    return True
