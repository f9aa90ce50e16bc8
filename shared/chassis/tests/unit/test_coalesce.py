"""Who comes together travels together; each gets its own."""

import asyncio
from collections.abc import Sequence

import pytest

from chassis.kernel import deadline, errors
from chassis.kernel.coalesce import Coalescer


class Flushes:
    """A flush that waits to be let go."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.go = asyncio.Event()
        self.deadlines: list[object] = []

    async def __call__(self, items: Sequence[int]) -> Sequence[int | errors.Fault]:
        self.seen.append(list(items))
        self.deadlines.append(deadline.current())
        await self.go.wait()
        return [errors.Invalid("odd") if item % 2 else item * 10 for item in items]


async def test_what_comes_while_a_call_is_under_way_is_the_next_call() -> None:
    flushes = Flushes()
    ask: Coalescer[int, int] = Coalescer(flushes, items=3, lanes=1)
    asking = [asyncio.create_task(ask(item, within_s=5)) for item in (0, 2, 4, 6, 8)]
    await asyncio.sleep(0)
    flushes.go.set()
    assert await asyncio.gather(*asking) == [0, 20, 40, 60, 80]
    assert flushes.seen == [[0, 2, 4], [6, 8]]


async def test_a_fault_is_its_own_items_alone() -> None:
    flushes = Flushes()
    flushes.go.set()
    ask: Coalescer[int, int] = Coalescer(flushes, items=10)
    found = await asyncio.gather(*(ask(n, within_s=5) for n in (1, 2)), return_exceptions=True)
    assert isinstance(found[0], errors.Invalid)
    assert found[1] == 20


async def test_nobody_waits_longer_than_they_said_and_who_left_is_not_sent() -> None:
    flushes = Flushes()
    ask: Coalescer[int, int] = Coalescer(flushes, items=1, lanes=1)
    first = asyncio.create_task(ask(2, within_s=5))
    await asyncio.sleep(0)
    with pytest.raises(errors.Ambiguous):
        await ask(4, within_s=0.01)
    flushes.go.set()
    assert await first == 20
    assert await ask(6, within_s=5) == 60
    assert flushes.seen == [[2], [6]]


async def test_a_call_for_many_has_no_deadline_of_one() -> None:
    flushes = Flushes()
    flushes.go.set()
    ask: Coalescer[int, int] = Coalescer(flushes, items=1)
    deadline.bind(deadline.Deadline.after(3))
    await ask(2, within_s=1)
    assert flushes.deadlines == [None]


async def test_heavy_items_travel_in_several_calls() -> None:
    flushes = Flushes()
    flushes.go.set()
    ask: Coalescer[int, int] = Coalescer(
        flushes, items=10, weight=10, weigh=lambda item: item, lanes=1
    )
    await asyncio.gather(*(ask(n, within_s=5) for n in (6, 4, 2, 20, 2)))
    assert flushes.seen == [[6, 4], [2], [20], [2]]


async def test_our_own_mistake_reaches_everybody_and_the_next_call_goes_on() -> None:
    async def broken(items: Sequence[int]) -> Sequence[int | errors.Fault]:
        if 0 in items:
            raise ZeroDivisionError
        return list(items)

    ask: Coalescer[int, int] = Coalescer(broken, items=1, lanes=1)
    with pytest.raises(ZeroDivisionError):
        await ask(0, within_s=1)
    assert await ask(1, within_s=1) == 1
