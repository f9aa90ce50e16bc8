"""Jobs claimed by their names: whoever says them, only what could be claimed anyway is given."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest_asyncio

from chassis import postgres
from chassis.kernel import ids
from queue_service.core.jobs import NewJob
from queue_service.core.leasing import Claim
from queue_service.store.engine import EngineStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.offers import SQL, PostgresOffers
from queue_service.store.pulse import PostgresPulse

RETRY = {"base_s": 5.0, "factor": 2.0, "max_s": 3600.0, "jitter": 0.5}
SHOP = "one.example"


@dataclass
class Rig:
    database: postgres.Database
    writer: EnqueueWriter
    dsn: str
    me: UUID

    async def put(self, count: int = 1, queue: str = "work", **more: Any) -> list[UUID]:
        jobs = [
            NewJob(id=ids.new_id(), kind="k", queue=queue, args={"a": 1}, fingerprint="f", **more)
            for _ in range(count)
        ]
        await self.writer.put_all(jobs)
        return [job.id for job in jobs]

    async def worker(self) -> UUID:
        known, pulse = ids.new_id(), PostgresPulse(self.dsn)
        await pulse.register(known, "test")
        await pulse.close()
        return known

    async def claim(self, *job_ids: UUID, queue: str = "work", worker: UUID | None = None) -> Any:
        return await PostgresOffers(self.database).claim_named(queue, worker or self.me, job_ids)

    async def claimed(self, *job_ids: UUID) -> set[UUID]:
        return {job.id for job in await self.claim(*job_ids)}

    async def do(self, sql: str, *args: Any) -> Any:
        return await self.database.fetchval(sql, *args)

    async def lane(self, shop: str = SHOP) -> Any:
        return await self.database.fetchrow("select * from lane where shop = $1", shop)


@pytest_asyncio.fixture
async def rig(database: postgres.Database, writer: EnqueueWriter, dsn: str) -> Rig:
    await database.executemany(
        "insert into queue (name, served_by, concurrency, max_attempts, timeout_s, retry) "
        "values ($1, $2, 10, 5, 30, $3)",
        [("work", "worker", RETRY), ("other", "worker", RETRY), ("pulled", "pull", RETRY)],
    )
    made = Rig(database, writer, dsn, ids.new_id())
    made.me = await made.worker()
    return made


async def test_a_named_job_is_leased_as_a_claim_of_lanes_leases_it(rig: Rig) -> None:
    first, second = await rig.put(2, shop=SHOP, tags=("t",), timeout_s=7.0)
    before = (await rig.lane())["vtime"]
    [named] = await rig.claim(first)
    _, [by_lane], _ = await EngineStore(rig.database).settle_and_claim(
        [], Claim("work", rig.me, 1, 4)
    )
    same = {"id": second, "created_at": by_lane.created_at, "run_at": by_lane.run_at}
    assert named._replace(**same) == by_lane
    rows = await rig.database.fetch("select * from queue_job")
    ran = [
        {name: value for name, value in row.items() if not name.endswith("_at")}
        | {"id": None, "seq": None}
        for row in rows
    ]
    assert ran[0] == ran[1]
    assert (await rig.lane())["vtime"] - before == 2.0


async def test_what_is_named_again_is_not_there(rig: Rig) -> None:
    [job] = await rig.put()
    assert [one.lease_no for one in await rig.claim(job, job)] == [1]
    assert await rig.claim(job) == []
    assert await rig.claim(job, worker=await rig.worker()) == []


async def test_two_who_are_told_of_one_job_do_not_both_get_it(rig: Rig) -> None:
    wanted = await rig.put(50)
    workers = [await rig.worker() for _ in range(4)]
    got = await asyncio.gather(*(rig.claim(*wanted, worker=one) for one in workers))
    claimed = [job.id for jobs in got for job in jobs]
    assert len(claimed) == len(set(claimed))


WRONG = [
    "update queue_job set state = 'scheduled', run_at = now() + interval '1 h'",
    "update queue_job set state = 'held'",
    "update queue_job set state = 'running', worker = gen_random_uuid()",
    "delete from queue_job",
    "update queue set paused = true where name = 'work'",
    "update queue set served_by = 'pull' where name = 'work'",
    "update lane set paused = true",
    "update lane set not_before = now() + interval '1 h'",
    "update lane set cap = 1, running = 1",
    "update queue set global_limit = 1, running = 1 where name = 'work'",
    "delete from worker",
]


async def test_what_could_not_be_claimed_is_not_claimed_by_name(rig: Rig) -> None:
    [job] = await rig.put(shop=SHOP)
    async with rig.database.connection() as connection:
        for wrong in WRONG:
            undone = connection.transaction()
            await undone.start()
            await connection.execute(wrong)
            assert await connection.fetch(SQL.claim_named, "work", rig.me, [job]) == [], wrong
            await undone.rollback()
    assert await rig.claimed(job) == {job}


async def test_jobs_of_other_queues_and_of_nobody_are_not_claimed(rig: Rig) -> None:
    [other], [pulled] = await rig.put(queue="other"), await rig.put(queue="pulled")
    assert await rig.claim(other, pulled, ids.new_id()) == []
    assert await rig.claim(pulled, queue="pulled") == []
    assert await rig.claim(other, queue="nowhere") == []


async def test_a_cap_and_a_limit_are_exact(rig: Rig) -> None:
    capped = await rig.put(5, shop=SHOP)
    await rig.do("update lane set cap = 3, running = 1 where shop = $1", SHOP)
    assert len(await rig.claimed(*capped)) == 2
    assert (await rig.lane())["running"] == 3
    free = await rig.put(5, shop="two.example")
    await rig.do("update queue set global_limit = 4, running = 2 where name = 'work'")
    assert len(await rig.claimed(*free)) == 2
    assert await rig.do("select running from queue where name = 'work'") == 4
    assert await rig.do("select count(*) from queue_job where state = 'running' and counted") == 2


async def test_the_first_of_a_lane_come_first(rig: Rig) -> None:
    late, early = await rig.put(shop=SHOP), await rig.put(shop=SHOP, priority=0)
    await rig.do("update lane set cap = 1 where shop = $1", SHOP)
    assert await rig.claimed(*late, *early) == set(early)


async def test_jobs_of_a_paused_batch_stay_where_they_lie(rig: Rig) -> None:
    batch = ids.new_id()
    await rig.do(
        "insert into batch (id, name, queue, kind, defaults, fingerprint, paused)"
        " values ($1, 'b', 'work', 'k', '{}', 'f', true)",
        batch,
    )
    [job] = await rig.put(shop=SHOP, batch_id=batch)
    assert await rig.claim(job) == []
    await rig.do("update batch set paused = false")
    assert await rig.claimed(job) == {job}


async def test_it_never_waits_for_others(rig: Rig) -> None:
    [held], [free] = await rig.put(shop=SHOP), await rig.put(shop="two.example")
    async with rig.database.transaction() as connection:
        await connection.execute("select from lane where shop = $1 for update", SHOP)
        assert await asyncio.wait_for(rig.claimed(held, free), 2) == {free}
    assert await rig.claimed(held) == {held}
