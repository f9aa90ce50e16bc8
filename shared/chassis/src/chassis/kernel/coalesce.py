"""Natural batching: while one call is on its way, the next one gathers.

Each caller gets the result of its own item, or its own fault, and waits no longer than it said.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chassis.kernel import errors

Item = TypeVar("Item")
Result = TypeVar("Result")

Flush = Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]]

WAITING_MAX = 10_000


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    outcome: asyncio.Future[Result]


class Coalescer(Generic[Item, Result]):
    """`flush` takes up to `items` of them, weighing `weight` together, and answers in order."""

    def __init__(
        self,
        flush: Flush[Item, Result],
        *,
        items: int,
        weight: int = 0,
        weigh: Callable[[Item], int] = lambda _item: 0,
        lanes: int = 2,
    ) -> None:
        self._flush = flush
        self._items = items
        self._weight = weight
        self._weigh = weigh
        self._lanes = lanes
        self._waiting: deque[_Entry[Item, Result]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._busy = 0

    async def __call__(self, item: Item, *, within_s: float) -> Result:
        """Raises what befell this item; Ambiguous when its time is over first."""
        if len(self._waiting) >= WAITING_MAX:
            raise errors.Unavailable("too many are waiting", code="overloaded")
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Result] = loop.create_future()
        self._waiting.append(_Entry(item, outcome))
        self._start()
        timer = loop.call_later(within_s, _give_up, outcome)
        try:
            return await outcome
        finally:
            timer.cancel()

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self) -> None:
        if self._busy < self._lanes:
            self._busy += 1
            # A context of its own: the first caller's deadline and trace are not everybody's.
            task = asyncio.create_task(self._run(), context=contextvars.Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self) -> None:
        try:
            # One turn of the loop, so that who comes at the same time travels together.
            await asyncio.sleep(0)
            while batch := self._take():
                for entry, outcome in zip(batch, await self._outcomes(batch), strict=True):
                    _settle(entry.outcome, outcome)
        finally:
            # In the same turn as the last look: who comes after it finds the lane free.
            self._busy -= 1

    async def _outcomes(
        self, batch: Sequence[_Entry[Item, Result]]
    ) -> Sequence[Result | BaseException]:
        try:
            return await self._flush([entry.item for entry in batch])
        except errors.Fault as fault:
            return [fault] * len(batch)
        except Exception as error:  # noqa: BLE001 - each caller gets it
            return [error] * len(batch)

    def _take(self) -> list[_Entry[Item, Result]]:
        batch: list[_Entry[Item, Result]] = []
        weight = 0
        while self._waiting and len(batch) < self._items:
            entry = self._waiting[0]
            if entry.outcome.done():
                self._waiting.popleft()
                continue
            weight += self._weigh(entry.item)
            if batch and self._weight and weight > self._weight:
                break
            batch.append(self._waiting.popleft())
        return batch


def _give_up(outcome: asyncio.Future[Any]) -> None:
    _settle(outcome, errors.Ambiguous("no answer in time"))


def _settle(future: asyncio.Future[Result], outcome: Result | BaseException) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
