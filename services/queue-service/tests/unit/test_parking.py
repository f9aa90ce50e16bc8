"""Callers in line: who looks, when, and for how long."""

import asyncio
from collections.abc import Sequence

from queue_service.core.parking import Parking
from testkit.signals import eventually

PLACE = ("orders", None)


class Looks:
    """Finds what is put in; counts the looks."""

    def __init__(self) -> None:
        self.count = 0
        self.found: list[str] = []

    async def __call__(self) -> Sequence[str]:
        self.count += 1
        return [self.found.pop()] if self.found else []


async def wait(parking: Parking, look: Looks, wait_s: float, *, gone: bool = False) -> list[str]:
    return list(await parking.wait(PLACE, look, wait_s=wait_s, is_gone=lambda: gone))


async def test_many_who_wait_look_as_often_as_one() -> None:
    parking, look = Parking(), Looks()
    assert await asyncio.gather(*(wait(parking, look, 0.3) for _ in range(50))) == [[]] * 50
    # The first in line, and each that comes to be first when its time is over.
    assert look.count <= 51
    parking, look = Parking(), Looks()
    waiting = [asyncio.create_task(wait(parking, look, 30)) for _ in range(50)]
    await eventually(lambda: look.count == 1)
    look.found = ["a"]
    parking.hint("others")
    parking.hint("orders")
    await eventually(lambda: sum(task.done() for task in waiting) == 1)
    assert look.count <= 4
    parking.close()
    await asyncio.gather(*waiting)


async def test_a_hint_during_a_look_leads_to_another() -> None:
    parking, looked = Parking(), 0

    async def look() -> Sequence[str]:
        nonlocal looked
        looked += 1
        if looked == 1:
            parking.hint("")
            return []
        return ["a"]

    async with asyncio.timeout(0.7):
        assert await parking.wait(PLACE, look, wait_s=30, is_gone=lambda: False) == ["a"]


async def test_who_is_gone_does_not_look() -> None:
    parking, look = Parking(), Looks()
    assert await wait(parking, look, 30, gone=True) == []
    assert look.count == 0


async def test_a_look_is_never_broken_off() -> None:
    parking, go_on = Parking(), asyncio.Event()

    async def look() -> Sequence[str]:
        await go_on.wait()
        return ["a"]

    waiting = asyncio.create_task(parking.wait(PLACE, look, wait_s=0.01, is_gone=lambda: False))
    asyncio.get_running_loop().call_later(0.1, go_on.set)
    assert await waiting == ["a"]
