"""What is told of a job that may be on its way."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from chassis.kernel import breaker, errors
from contracts.jobs import JobCreate
from gateway.core import in_motion, parcels
from gateway.core.in_motion import FindJob, InMotion
from gateway.core.parcels import Parcel, Waiting
from gateway.core.ports import Road
from testkit.clock import FakeClock


@dataclass
class Answer:
    status: int


class Table:
    """A spool in memory, which can be away or hang."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Waiting] = {}
        self.is_away = False
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.asked = 0

    async def _ask(self) -> None:
        self.asked += 1
        await self.hangs.wait()
        if self.is_away:
            raise errors.Unavailable("away")

    async def keep(
        self, parcels_: Sequence[Parcel], *, road: Road, is_whole: bool
    ) -> list[Waiting]:
        await self._ask()
        self.rows |= {parcel.id: parcels.waiting(parcel) for parcel in parcels_}
        return []

    async def find(self, job_id: UUID) -> Waiting | None:
        await self._ask()
        return self.rows.get(job_id)

    async def find_like(self, parcels_: Sequence[Parcel]) -> list[Waiting]:
        await self._ask()
        return [self.rows[each.id] for each in parcels_ if each.id in self.rows]

    async def hurry(self, ids: Collection[UUID]) -> None: ...
    async def claim(self, limit: int) -> list[Parcel]:
        return []

    async def done(self, ids: Collection[UUID]) -> None: ...
    async def later(self, ids: Collection[UUID], *, seconds: float) -> None: ...
    async def count(self) -> tuple[int, float]:
        return len(self.rows), 0.0


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def motion(table: Table, clock: FakeClock) -> InMotion:
    circuit = breaker.Breaker(
        "accepted",
        monotonic=clock.monotonic,
        policy=in_motion.CIRCUIT,
        uniform=lambda _low, high: high,
    )
    return InMotion(table, circuit=circuit)


def a_parcel(shop: str | None = None, **said: Any) -> Parcel:
    document = {"kind": "x", **said}
    stamp = parcels.Stamp(now=FakeClock().now(), key_shop=shop, key=None)
    return parcels.pack(JobCreate.model_validate(document), document, stamp)


def asking(*statuses: int) -> Any:
    left = list(statuses)

    async def ask() -> Answer:
        status = left.pop(0)
        if status == 503:
            raise errors.Unavailable("away")
        return Answer(status)

    return ask


async def test_the_owners_word_comes_first(motion: InMotion, table: Table) -> None:
    found = await FindJob(motion=motion)(a_parcel().id, shop=None, ask=asking(200))
    assert found == Answer(200)
    assert table.asked == 0


async def test_a_job_that_moved_while_we_looked_is_found(motion: InMotion) -> None:
    found = await FindJob(motion=motion)(a_parcel().id, shop=None, ask=asking(404, 200))
    assert found == Answer(200)
    found = await FindJob(motion=motion)(a_parcel().id, shop=None, ask=asking(404, 404))
    assert found == Answer(404)


@pytest.mark.parametrize("status", [404, 503])
async def test_what_waits_is_accepted_for_its_own_shop_alone(motion: InMotion, status: int) -> None:
    parcel = a_parcel(shop="s")
    await motion.keep([parcel], road=Road.SPOOL, is_whole=True)
    find = FindJob(motion=motion)
    for shop in (None, "s"):
        found = await find(parcel.id, shop=shop, ask=asking(status))
        assert found == parcels.waiting(parcel)
    if status == 404:
        assert await find(parcel.id, shop="other", ask=asking(404, 404)) == Answer(404)
    else:
        with pytest.raises(errors.Unavailable):
            await find(parcel.id, shop="other", ask=asking(503))


async def test_nobody_is_told_not_found_while_the_table_is_away(
    motion: InMotion, table: Table
) -> None:
    table.is_away = True
    with pytest.raises(errors.Unavailable):
        await FindJob(motion=motion)(a_parcel().id, shop=None, ask=asking(404, 404))


async def test_an_empty_table_is_not_asked(motion: InMotion, table: Table) -> None:
    await motion.find_like([a_parcel()])
    assert table.asked == 1
    await motion.count()
    await motion.find_like([a_parcel()])
    assert table.asked == 1
    await motion.keep([a_parcel()], road=Road.SPOOL, is_whole=True)
    await motion.find_like([a_parcel()])
    assert table.asked == 3


async def test_what_the_bus_alone_has_is_remembered_here(motion: InMotion, table: Table) -> None:
    parcel = a_parcel()
    table.is_away = True
    await motion.count()
    motion.remember([parcel])
    assert await motion.find(parcel.id, shop=None) == parcels.waiting(parcel)
    assert await motion.find_like([parcel]) == [parcels.waiting(parcel)]


async def test_what_has_come_to_its_owner_is_not_remembered(motion: InMotion, table: Table) -> None:
    there, away = a_parcel(), a_parcel()
    await motion.count()
    motion.remember([there, away])
    arrived = {there.id}

    async def has(job_id: UUID) -> bool:
        return job_id in arrived

    await motion.forget_arrived(has)
    assert await motion.find(there.id, shop=None) is None
    assert await motion.find(away.id, shop=None) == parcels.waiting(away)
    arrived.add(away.id)
    await motion.forget_arrived(has)
    assert not motion.may_hold_any


async def test_a_table_that_hangs_is_soon_not_waited_for(
    motion: InMotion, table: Table, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_motion, "KEEP_S", 0.01)
    table.hangs.clear()
    for _ in range(3):
        with pytest.raises(errors.Unavailable):
            await motion.keep([a_parcel()], road=Road.SPOOL, is_whole=True)
    assert table.asked == 2
    table.hangs.set()
    clock.advance(1)
    await motion.keep([a_parcel()], road=Road.SPOOL, is_whole=True)
    assert table.asked == 3
