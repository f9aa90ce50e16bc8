"""The table of what has been promised."""

from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from chassis import postgres
from chassis.kernel import errors
from contracts.commands import AcceptedJob
from contracts.jobs import JobCreate
from gateway.__main__ import MIGRATIONS
from gateway.core import parcels
from gateway.core.ports import Road
from gateway.store.accepted import Accepted
from testkit.clock import FakeClock


@pytest_asyncio.fixture
async def database(make_database: Any) -> Any:
    opened = await postgres.open_database(
        await make_database(MIGRATIONS), size=4, application="test"
    )
    yield opened
    await opened.close()


@pytest.fixture
def table(database: Any) -> Accepted:
    return Accepted(database)


def pack(key: str | None = None, **said: Any) -> parcels.Parcel:
    document = {"kind": "x", **said}
    stamp = parcels.Stamp(now=FakeClock().now(), key_shop=None, key=key)
    return parcels.pack(JobCreate.model_validate_json(_json(document)), document, stamp)


def _json(document: Any) -> str:
    return postgres.dumps(document)


async def test_what_is_kept_comes_out_as_it_went_in_and_in_order(table: Accepted) -> None:
    kept = [pack(args={"n": n, "text": "Γειά 👋", "f": 1.5, "big": 2**63}) for n in range(20)]
    for parcel in kept:
        assert await table.keep([parcel], road=Road.SPOOL, is_whole=True) == []
    claimed = await table.claim(15)
    assert [each.id for each in claimed] == [each.id for each in kept[:15]]
    for out, put in zip(claimed, kept, strict=False):
        assert AcceptedJob.model_validate_json(out.raw) == AcceptedJob.model_validate_json(put.raw)


async def test_a_claim_is_nobody_elses_until_it_is_given_back(table: Accepted) -> None:
    parcel = pack()
    await table.keep([parcel], road=Road.SPOOL, is_whole=True)
    assert len(await table.claim(10)) == 1
    assert await table.claim(10) == []
    await table.later([parcel.id], seconds=0)
    assert len(await table.claim(10)) == 1
    await table.done([parcel.id])
    assert await table.count() == (0, 0.0)


async def test_what_the_bus_carries_waits_a_minute_unless_it_is_hurried(table: Accepted) -> None:
    parcel = pack()
    await table.keep([parcel], road=Road.BUS, is_whole=True)
    assert await table.claim(10) == []
    await table.hurry([parcel.id])
    assert len(await table.claim(10)) == 1


async def test_two_replicas_claim_apart(table: Accepted, database: Any) -> None:
    for _ in range(10):
        await table.keep([pack()], road=Road.SPOOL, is_whole=True)
    async with database.transaction() as held:
        mine = await held.fetch("select id from accepted order by accepted_at limit 4 for update")
        others = await table.claim(10)
        assert len(others) == 6
        assert not {row["id"] for row in mine} & {each.id for each in others}


async def test_one_collision_refuses_the_whole_and_keeps_nothing(table: Accepted) -> None:
    await table.keep([pack("k", args={"a": 1})], road=Road.SPOOL, is_whole=True)
    fresh, other = pack(), pack("k", args={"a": 2})
    with pytest.raises(errors.Invalid, match="another body"):
        await table.keep([fresh, other], road=Road.SPOOL, is_whole=True)
    assert await table.find(fresh.id) is None
    there = await table.keep([fresh, other], road=Road.SPOOL, is_whole=False)
    assert [each.key for each in there] == ["k"]
    assert await table.find(fresh.id) is not None
    assert (await table.count())[0] == 2


async def test_a_repeat_is_told_what_is_there(table: Accepted) -> None:
    first = pack("k")
    await table.keep([first], road=Road.SPOOL, is_whole=True)
    there = await table.keep([pack("k")], road=Road.SPOOL, is_whole=True)
    assert there == [parcels.waiting(first)]


async def test_a_lost_database_is_unavailable(private_postgres: Any) -> None:
    database = await postgres.open_database(private_postgres.url, size=1, application="test")
    try:
        private_postgres.kill()
        with pytest.raises(errors.Unavailable):
            await Accepted(database).count()
    finally:
        await database.close()
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await asyncpg.connect(private_postgres.url, timeout=2)
