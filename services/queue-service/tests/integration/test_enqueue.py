"""Each job once, whoever sends it how often, and a bad one alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from chassis import postgres
from chassis.kernel import deadline, errors, ids
from chassis.kernel.clock import SystemClock
from queue_service.core.attempts import Settlement, Status, Verb
from queue_service.core.enqueue import Enqueue
from queue_service.core.jobs import NewJob, Verdict
from queue_service.core.ports import JobFilter
from queue_service.core.queues import fresh
from queue_service.store.engine import EngineStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.jobs import PostgresJobs
from queue_service.store.queues import PostgresQueues

JOBS_IN_LANES = "select count(*) from queue_job j join lane l on l.id = j.lane"


def job(**more: Any) -> NewJob:
    plain = {"id": ids.new_id(), "kind": "k", "queue": "work", "args": {}, "fingerprint": "f"}
    return NewJob(**{**plain, **more})


@pytest_asyncio.fixture(autouse=True)
async def queue(database: postgres.Database) -> None:
    await PostgresQueues(database).create(fresh("work"))


@pytest_asyncio.fixture
async def running(writer: EnqueueWriter) -> AsyncIterator[EnqueueWriter]:
    task = asyncio.create_task(writer.run())
    yield writer
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def count(database: postgres.Database) -> int:
    return int(await database.fetchval("select count(*) from any_job"))


async def finish(database: postgres.Database, job_id: UUID) -> None:
    await database.execute(
        "update queue_job set state = 'running', lease_no = 1 where id = $1", job_id
    )
    ended = Settlement(id=job_id, lease_no=1, verb=Verb.COMPLETED)
    assert await EngineStore(database).settle([ended]) == [Status.SETTLED]


async def test_many_callers_share_statements(
    database: postgres.Database, writer: EnqueueWriter
) -> None:
    calls = [asyncio.ensure_future(writer.put([job(), job()])) for _ in range(200)]
    await asyncio.sleep(0)
    passes = 0
    while not all(call.done() for call in calls):
        await writer.run_once()
        passes += 1
        await asyncio.sleep(0)
    assert passes == 1
    stored = [one for call in calls for one in call.result()]
    assert {one.verdict for one in stored} == {Verdict.CREATED}
    assert await count(database) == 400


@pytest.mark.parametrize("make", [ids.new_id, uuid4, lambda: ids.derived_id("t", "x")])
async def test_a_settled_id_is_never_run_again(
    database: postgres.Database, running: EnqueueWriter, make: Any
) -> None:
    one = job(id=make())
    await running.put([one])
    await finish(database, one.id)
    for put in (running.put, running.put_all):
        (again,) = await put([one])
        assert (again.verdict, again.id) == (Verdict.EXISTING, one.id)
        (other,) = await put([job(id=one.id, fingerprint="other")])
        assert other.verdict is Verdict.ID_TAKEN
    assert await database.fetchval("select count(*) from queue_job") == 0


async def test_a_key_decides_alone_also_after_the_job_has_gone(
    database: postgres.Database, running: EnqueueWriter
) -> None:
    first = job(key="a", scope="s")
    await running.put([first])
    await finish(database, first.id)
    await database.execute("delete from queue_job_done")
    (again,) = await running.put([job(key="a", scope="s")])
    assert (again.verdict, again.id) == (Verdict.EXISTING, first.id)
    (reused,) = await running.put([job(key="a", scope="s", fingerprint="g")])
    assert reused.verdict is Verdict.KEY_REUSED
    (elsewhere,) = await running.put([job(key="a", scope="t")])
    assert elsewhere.verdict is Verdict.CREATED
    use_case = Enqueue(intake=running, jobs=PostgresJobs(database), clock=SystemClock(),
                       remembered=None)  # type: ignore[arg-type]  # fmt: skip
    with pytest.raises(errors.Conflict, match="no longer kept"):
        await use_case.one(job(key="a", scope="s"))


async def test_the_same_key_at_the_same_time_makes_one_job(
    database: postgres.Database, writer: EnqueueWriter
) -> None:
    """From several replicas, each with statements of its own."""
    replicas = [EnqueueWriter(database) for _ in range(5)]
    stored = await asyncio.gather(
        *(replica.put_all([job(key="a", scope="s")]) for replica in replicas for _ in range(8))
    )
    verdicts = [one.verdict for (one,) in stored]
    assert verdicts.count(Verdict.CREATED) == 1
    assert verdicts.count(Verdict.EXISTING) == len(verdicts) - 1
    assert len({one.id for (one,) in stored}) == 1
    assert await count(database) == 1


async def test_all_or_nothing_is_nothing_when_one_is_wrong(
    database: postgres.Database, running: EnqueueWriter
) -> None:
    stored = await running.put_all([job(key="a"), job(queue="nowhere"), job()])
    assert stored[1].verdict is Verdict.UNKNOWN_QUEUE
    assert await count(database) == 0
    assert await database.fetchval("select count(*) from idempotency_key") == 0


async def test_the_same_ids_in_another_order_do_not_block_each_other(
    database: postgres.Database,
) -> None:
    for _ in range(5):
        jobs = [job(id=uuid4()) for _ in range(200)]
        stored = await asyncio.gather(
            *(replica.put_all(order) for replica, order in [
                (EnqueueWriter(database), jobs),
                (EnqueueWriter(database), jobs[::-1]),
                (EnqueueWriter(database), sorted(jobs, key=lambda one: one.id, reverse=True)),
            ])
        )  # fmt: skip
        assert [one.id for one in stored[1]] == [one.id for one in jobs[::-1]]
        verdicts = [one.verdict for call in stored for one in call]
        assert verdicts.count(Verdict.CREATED) == 200
        assert verdicts.count(Verdict.EXISTING) == 400


async def test_what_was_undone_leaves_no_lane_behind(
    database: postgres.Database, writer: EnqueueWriter
) -> None:
    """A lane that was made for nothing must not be taken for one that is there."""
    await writer.put_all([job(shop="a"), job(queue="nowhere")])
    (stored,) = await writer.put_all([job(shop="a")])
    assert stored.verdict is Verdict.CREATED
    assert await database.fetchval(JOBS_IN_LANES) == 1


async def test_replicas_that_meet_a_shop_at_the_same_time_share_its_lane(
    database: postgres.Database,
) -> None:
    for shop in "abcdef":
        stored = await asyncio.gather(
            *(EnqueueWriter(database).put_all([job(shop=shop)]) for _ in range(6))
        )
        assert {one.verdict for (one,) in stored} == {Verdict.CREATED}
    assert await database.fetchval(JOBS_IN_LANES) == 36


async def test_a_job_that_cannot_be_stored_harms_itself_alone(
    database: postgres.Database, writer: EnqueueWriter
) -> None:
    good, bad, late = (
        asyncio.ensure_future(writer.put([one]))
        for one in (job(), job(args={"a": "\x00"}), job(queue="nowhere"))
    )
    await asyncio.sleep(0)
    await writer.run_once()
    assert (await good)[0].verdict is Verdict.CREATED
    assert (await late)[0].verdict is Verdict.UNKNOWN_QUEUE
    with pytest.raises(errors.Invalid):
        await bad
    assert await count(database) == 1


async def test_a_caller_waits_no_longer_than_its_deadline(
    database: postgres.Database, dsn: str, running: EnqueueWriter
) -> None:
    use_case = Enqueue(intake=running, jobs=PostgresJobs(database), clock=SystemClock(),
                       remembered=None)  # type: ignore[arg-type]  # fmt: skip
    blocker = await asyncpg.connect(dsn)
    one = job()
    async with blocker.transaction():
        await blocker.execute("lock table queue_job in access exclusive mode")
        deadline.bind(deadline.Deadline.after(0.2))
        with pytest.raises(errors.Ambiguous):
            await use_case.one(one)
        deadline.bind(None)
    await blocker.close()
    # It was stored all the same; a repeat finds it.
    outcome = await use_case.one(one)
    assert (outcome.id, outcome.is_new) == (one.id, False)


async def test_a_ready_job_wakes_its_lane(
    database: postgres.Database, running: EnqueueWriter
) -> None:
    await running.put([job(shop="a"), job(shop="b", held=True)])
    rows = await database.fetch("select shop, active from lane order by shop")
    assert [tuple(row) for row in rows] == [("a", True), ("b", False)]


async def test_pages_of_bounded_looks_put_together_are_the_whole(
    database: postgres.Database, writer: EnqueueWriter
) -> None:
    jobs = [job(kind=f"k{n % 9}") for n in range(60)]
    await writer.put_all(jobs)
    store = PostgresJobs(database, scan_max=7)
    for limit in (1, 3, 50):
        found, after, looks = [], None, 0
        while looks == 0 or after is not None:
            page = await store.newest(JobFilter(kind="k3"), after=after, limit=limit)
            found += [one.id for one in page.jobs]
            after, looks = page.next, looks + 1
        assert len(found) == len(set(found))
        assert set(found) == {one.id for one in jobs if one.kind == "k3"}
        assert looks >= 60 // 7
