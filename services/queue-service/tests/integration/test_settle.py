"""Settling: one order of locks, counts that stay exact, and what is told of the end of a job."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from chassis import postgres
from chassis.kernel import ids
from contracts.events import Envelope, JobEnded
from queue_service.core.attempts import Settlement, Status, Verb
from queue_service.core.jobs import NewJob
from queue_service.core.ports import Rejection
from queue_service.core.queues import fresh
from queue_service.store.engine import EngineStore
from queue_service.store.enqueue import SQL as ENQUEUE
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.jobs import PostgresJobs
from queue_service.store.queues import PostgresQueues
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
SECRET = "Ελένη"


@pytest.fixture
def engine(database: postgres.Database) -> EngineStore:
    return EngineStore(database)


Running = Callable[..., Awaitable[list[UUID]]]


@pytest.fixture
def running(database: postgres.Database, writer: EnqueueWriter) -> Running:
    """So many jobs, running under lease 1."""

    async def begin(count: int = 1, **more: Any) -> list[UUID]:
        if await PostgresQueues(database).create(fresh("work", served_by="worker")):
            await database.execute("update queue set paused = true where name = 'work'")
        jobs = [
            NewJob(id=ids.new_id(), kind="k", queue="work", args={"to": SECRET}, fingerprint="f",
                   **{"shop": SHOP, **more})
            for _ in range(count)
        ]  # fmt: skip
        if jobs:
            await writer.put_all(jobs)
        await database.execute(
            "update queue_job set state = 'running', lease_no = 1, attempt = 1, worker = $2 "
            "where id = any($1)",
            [one.id for one in jobs], ids.new_id(),
        )  # fmt: skip
        return [one.id for one in jobs]

    return begin


def ended(job_id: UUID, verb: Verb = Verb.COMPLETED, **more: Any) -> Settlement:
    return Settlement(id=job_id, lease_no=1, verb=verb, **more)


async def waiting(database: postgres.Database, count: int) -> None:
    async def wait_for_locks() -> bool:
        found = await database.fetchval(
            "select count(*) from pg_stat_activity "
            "where datname = current_database() and wait_event_type = 'Lock'"
        )
        return bool(found == count)

    await eventually(wait_for_locks)


async def test_settling_of_all_kinds_and_cancelling_take_the_same_jobs_in_the_same_order(
    database: postgres.Database, engine: EngineStore, running: Running
) -> None:
    first, second = sorted(await running(2))
    async with database.transaction() as connection:
        await connection.fetch("select from queue_job where id = $1 for update", first)
        cancelling = asyncio.create_task(
            database.fetch("select * from cancel_jobs($1)", [first, second])
        )
        await waiting(database, 1)
        # The one that is over is the later by id: it must not be taken first.
        settling = asyncio.create_task(
            engine.settle([ended(first, Verb.RETRY, delay_s=60.0), ended(second)])
        )
        await waiting(database, 2)
    assert {state for _, state in await cancelling} == {"running"}
    assert await settling == [Status.SETTLED, Status.SETTLED]
    jobs = await PostgresJobs(database).many([first, second])
    assert [jobs[one].state for one in (first, second)] == ["cancelled", "completed"]


async def test_a_lane_that_is_being_made_gets_the_cap_that_is_being_set(
    database: postgres.Database, running: Running
) -> None:
    await running()
    async with database.transaction() as connection:
        await connection.fetch(ENQUEUE.lanes, ["work"], ["new.example"])
        queues = PostgresQueues(database)
        setting = asyncio.create_task(queues.change("work", {"per_shop_limit": 3}))
        await waiting(database, 1)
    assert await setting
    assert await database.fetch("select distinct cap from lane where queue = 'work'") == [(3,)]


async def test_a_global_limit_that_is_set_while_jobs_end_counts_what_runs(
    database: postgres.Database, engine: EngineStore, running: Running
) -> None:
    jobs = await running(3)
    async with database.transaction() as connection:
        settle = "select * from settle_jobs($1, '{1}', '{completed}', '{0}', $2, $2, '{}')"
        await connection.fetch(settle, jobs[:1], [None])
        setting = asyncio.create_task(PostgresQueues(database).change("work", {"global_limit": 5}))
        await waiting(database, 1)
    assert await setting
    counted = "select running from queue where name = 'work'"
    assert await database.fetchval(counted) == 2
    await engine.settle([ended(jobs[1]), ended(jobs[2], Verb.SNOOZE)])
    assert await database.fetchval(counted) == 0


async def told(database: postgres.Database) -> Sequence[Envelope]:
    rows = await database.fetch("select event_id, type, envelope from outbox order by id")
    events = [Envelope.model_validate(row["envelope"]) for row in rows]
    for row in rows:
        assert row["envelope"].keys() == Envelope.model_fields.keys()
        assert row["envelope"]["data"].keys() == JobEnded.model_fields.keys()
    assert [(event.id, event.type) for event in events] == [
        (UUID(bytes=row["event_id"].bytes), row["type"]) for row in rows
    ]
    return events


async def test_failures_are_told_and_other_ends_of_jobs_that_asked(
    database: postgres.Database, engine: EngineStore, running: Running
) -> None:
    quiet, loud = await running(4), await running(4, notify=True)
    verbs = (Verb.COMPLETED, Verb.FAILED, Verb.CANCELLED, Verb.RETRY)
    error = {"attempt": 1, "type": "provider_away", "message": SECRET}
    await engine.settle([
        ended(job_id, verb, result=SECRET, error=None if verb is Verb.COMPLETED else error)
        for some in (quiet, loud)
        for job_id, verb in zip(some, verbs, strict=True)
    ])  # fmt: skip
    events = await told(database)
    assert SECRET not in str(events)
    said = {(event.type, event.subject) for event in events}
    assert said == {
        ("job.failed.v1", str(quiet[1])),
        ("job.completed.v1", str(loud[0])),
        ("job.failed.v1", str(loud[1])),
        ("job.cancelled.v1", str(loud[2])),
    }
    for event in events:
        job = JobEnded.model_validate(event.data)
        assert (str(job.job_id), event.type) == (event.subject, f"job.{job.state}.v1")
        assert (event.shop, job.shop, job.queue, job.attempt) == (SHOP, SHOP, "work", 1)
        is_completed = job.state == "completed"
        assert job.error_type == (None if is_completed else "provider_away")
        stored = (await PostgresJobs(database).many([job.job_id]))[job.job_id]
        assert job.finished_at == stored.finished_at == event.time


async def test_what_is_cancelled_before_it_runs_is_told_if_it_asked(
    database: postgres.Database, writer: EnqueueWriter, running: Running
) -> None:
    await running(0)
    jobs = [
        NewJob(id=ids.new_id(), kind="k", queue="work", args={}, fingerprint="f", shop=SHOP,
               notify=notify)
        for notify in (True, False)
    ]  # fmt: skip
    await writer.put_all(jobs)
    for _ in range(2):
        await database.fetch("select * from cancel_jobs($1)", [one.id for one in jobs])
    (event,) = await told(database)
    assert (event.type, event.subject) == ("job.cancelled.v1", str(jobs[0].id))


async def test_a_settle_that_is_undone_tells_nothing(
    database: postgres.Database, engine: EngineStore, running: Running
) -> None:
    (job_id,) = await running()
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            settle = "select * from settle_jobs($1, '{1}', '{failed}', '{0}', $2, $2, '{}')"
            await connection.fetch(settle, [job_id], [None])
            raise ZeroDivisionError
    assert await told(database) == []
    assert await engine.settle([ended(job_id, Verb.FAILED)]) == [Status.SETTLED]
    assert await engine.settle([ended(job_id, Verb.FAILED)]) == [Status.DUPLICATE]
    assert len(await told(database)) == 1


async def test_a_promised_job_that_was_wrong_is_told_once(
    database: postgres.Database,
) -> None:
    job = NewJob(
        id=ids.new_id(), kind="k", queue="nowhere", args={"to": SECRET}, fingerprint="f", shop=SHOP
    )
    for _ in range(2):
        await PostgresJobs(database).reject([Rejection(job, "unknown_queue", SECRET)])
    (event,) = await told(database)
    assert (event.type, event.subject, event.shop) == ("job.rejected.v1", str(job.id), SHOP)
    assert JobEnded.model_validate(event.data).error_type == "unknown_queue"
    assert SECRET not in str(event)


@pytest.mark.parametrize(
    ("verb", "kills"), [(Verb.LOST, 3), (Verb.RELEASE, 2), (Verb.SNOOZE, 0), (Verb.RETRY, 0)]
)
async def test_workers_are_killed_in_a_row_or_not_at_all(
    engine: EngineStore, database: postgres.Database, running: Running, verb: Verb, kills: int
) -> None:
    [job_id] = await running()
    await database.execute("update queue_job set kills = 2")
    assert await engine.settle([ended(job_id, verb)]) == [Status.SETTLED]
    assert await database.fetchval("select kills from queue_job") == kills
