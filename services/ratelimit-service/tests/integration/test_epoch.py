"""The row that names the decider: who may change it, and who waits for whom."""

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from contracts.ratelimits import Backend
from ratelimit_service.__main__ import MIGRATIONS
from ratelimit_service.core import gcra, ports
from ratelimit_service.store.buckets import PostgresBuckets
from ratelimit_service.store.epoch import PostgresEpochs
from ratelimit_service.store.lane import Lane
from testkit.databases import Databases
from testkit.signals import eventually

PACE = gcra.Pace(1_000_000, 10_000_000, 1)
BATCH = gcra.Batch([gcra.Ask((gcra.Limit("k", PACE, 1),))])
ELDER, YOUNGER = sorted((uuid.uuid4(), uuid.uuid4()))


class Replica:
    def __init__(self, dsn: str, identifier: uuid.UUID) -> None:
        self.lane = Lane(dsn, budget_s=5)
        self.epochs = PostgresEpochs(self.lane, replica=identifier)
        self.buckets = PostgresBuckets(decisions=self.lane, bookkeeping=self.lane)
        self.seq = 0

    async def follow(self, run_id: str | None = "r1") -> ports.Standing:
        """Learn of the epoch and say that we have."""
        self.seq = (await self.epochs.beat(run_id=run_id, seq=self.seq)).epoch.seq
        return await self.epochs.beat(run_id=run_id, seq=self.seq)

    async def open(self, run_id: str = "r1") -> bool:
        epoch = (await self.epochs.beat(run_id=run_id, seq=self.seq)).epoch
        return await self.epochs.open(epoch, run_id=run_id, mark="m")


Pair = tuple[Replica, Replica]


@pytest_asyncio.fixture
async def pair(make_database: Databases) -> AsyncIterator[Pair]:
    dsn = await make_database(MIGRATIONS)
    elder, younger = Replica(dsn, ELDER), Replica(dsn, YOUNGER)
    yield elder, younger
    for each in (elder, younger):
        each.lane.close()


async def test_redis_is_opened_when_all_see_the_same_one_and_by_the_eldest(pair: Pair) -> None:
    elder, younger = pair
    await elder.follow("r1")
    await younger.follow("r2")
    assert not (await elder.follow("r1")).may_open
    assert not await elder.open("r1")
    await younger.follow(None)
    assert not await elder.open("r1")
    assert not (await younger.follow("r1")).may_open
    standing = await elder.follow("r1")
    assert standing.may_open
    assert standing.replicas == 2
    assert await elder.open("r1")
    epoch = (await younger.follow("r1")).epoch
    assert (epoch.backend, epoch.gen, epoch.run_id, epoch.mark) == (Backend.REDIS, 1, "r1", "m")


async def test_an_epoch_is_left_once_however_many_miss_redis(pair: Pair) -> None:
    elder, younger = pair
    await younger.follow()
    await elder.follow()
    assert await elder.open()
    seen = (await elder.follow()).epoch
    await elder.epochs.depart(seen)
    await younger.epochs.depart(seen)
    assert (await elder.follow()).epoch.seq == seen.seq + 1


async def test_postgres_does_not_decide_out_of_turn(pair: Pair) -> None:
    elder, younger = pair
    await younger.follow()
    await elder.follow()
    await elder.open()
    with pytest.raises(ports.Moved):
        await elder.buckets.decide(BATCH)


async def test_postgres_waits_for_those_who_may_still_decide_by_redis(pair: Pair) -> None:
    elder, younger = pair
    await younger.follow()
    await elder.follow()
    await elder.open()
    seen = (await elder.follow()).epoch
    await younger.follow()
    await elder.epochs.depart(seen)
    await elder.follow()
    with pytest.raises(ports.Unsettled):
        await elder.buckets.decide(BATCH)
    await younger.follow()
    [verdict] = await elder.buckets.decide(BATCH)
    assert verdict.passed


async def test_postgres_waits_no_longer_than_a_lease(pair: Pair) -> None:
    elder, younger = pair
    await younger.follow()
    await elder.follow()
    await elder.open()
    await elder.epochs.depart((await elder.follow()).epoch)
    await elder.follow()
    with pytest.raises(ports.Unsettled):
        await elder.buckets.decide(BATCH)

    async def decided() -> bool:
        try:
            await elder.buckets.decide(BATCH)
        except ports.Unsettled:
            return False
        return True

    await eventually(decided, within_s=2)


async def test_who_has_left_is_not_waited_for(pair: Pair) -> None:
    elder, younger = pair
    await younger.follow("r2")
    await elder.follow("r1")
    await younger.epochs.leave()
    assert (await elder.follow("r1")).may_open


async def test_a_debt_that_is_handed_over_twice_counts_once_and_never_lowers(pair: Pair) -> None:
    elder, _ = pair
    await elder.buckets.merge({"k": gcra.Level(5_000_000, PACE)})
    await elder.buckets.merge({"k": gcra.Level(5_000_000, PACE)})
    await elder.buckets.merge({"k": gcra.Level(1_000_000, PACE)})
    [verdict] = await elder.buckets.decide(BATCH)
    assert 4_000_000 < verdict.levels[0].debt_us <= 5_000_000


async def test_debts_of_two_versions_meet_in_the_newer_one(pair: Pair) -> None:
    elder, _ = pair
    newer = gcra.Pace(2_000_000, 8_000_000, 2)
    await elder.buckets.merge({"a": gcra.Level(3_000_000, PACE), "b": gcra.Level(1, newer)})
    await elder.buckets.merge({"a": gcra.Level(1, newer), "b": gcra.Level(3_000_000, PACE)})
    for level in (await elder.buckets.debts({"a": PACE, "b": PACE})).values():
        assert level.pace == newer
        assert 5_000_000 < level.debt_us <= 6_000_000


async def test_only_buckets_that_are_full_and_untouched_are_swept(pair: Pair) -> None:
    elder, _ = pair
    await elder.buckets.merge({"owing": gcra.Level(10**9, PACE), "new": gcra.Level(1, PACE)})
    await elder.buckets.merge({"old": gcra.Level(1, PACE)})
    await elder.lane.fetch("update rate_limit_record set touched_us = 0 where key <> 'new'")
    await eventually(lambda: _full(elder))
    await elder.buckets.sweep()
    rows = await elder.lane.fetch("select key from rate_limit_record order by key")
    assert [row["key"] for row in rows] == ["new", "owing"]


async def _full(replica: Replica) -> bool:
    query = "select tat_us < clock_us() as full from rate_limit_record where key = 'old'"
    [row] = await replica.lane.fetch(query)
    return bool(row["full"])


async def test_a_replica_of_the_release_before_decides_beside_new_ones(pair: Pair) -> None:
    elder, _ = pair
    await elder.follow(None)
    await elder.buckets.decide(BATCH)
    [row] = await elder.lane.fetch(
        "select * from decide(array['k'], array[1000000], array[10000000], array[1], array[true],"
        " array[1], array[false], array[1], array[1], array[0], array[false], 600000000,"
        " 1, interval '3 s', interval '1 s')"
    )
    assert (row["state"], row["passed"]) == ("decided", [True])
    assert 0 < row["levels"][0] <= 1_000_000
