"""History: what is forgotten when, and a year of it in the way of nobody."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from chassis import postgres
from chassis.kernel import ids
from queue_service.core.queues import fresh
from queue_service.loops.historian import Historian
from queue_service.store.engine import HistoryStore
from queue_service.store.jobs import SQL as JOBS
from queue_service.store.jobs import PostgresJobs
from queue_service.store.queues import PostgresQueues

DONE, FAILED = "queue_job_done", "queue_job_failed"
PUT = """
insert into {} (id, queue, kind, shop, state, priority, attempt, max_attempts, lease_no, run_at,
    created_at, finished_at, tags, fingerprint, errors, args, result)
select $1, $2, 'k', 'a.example', $3, 5, 1, 5, 1, $4, $4, $4, '{{Anna}}', 'f',
    '[{{"message": "Anna"}}]', '{{"to": "Anna"}}', '"Anna"'
"""


@pytest.fixture
def history(database: postgres.Database) -> HistoryStore:
    return HistoryStore(database)


def historian(store: HistoryStore) -> Historian:
    return Historian(store, completed_d=7, failed_d=30)


async def put(database: postgres.Database, queue: str, days: float, parent: str = DONE) -> UUID:
    """A job that ended so many days ago."""
    job_id, at = ids.new_id(), datetime.now(UTC) - timedelta(days=days)
    state = "completed" if parent == DONE else "failed"
    await database.fetchval("select keep_history_day($1, $2)", parent, at.date())
    await database.execute(PUT.format(parent), job_id, queue, state, at)
    return job_id


async def args_of(database: postgres.Database, *job_ids: UUID) -> list[Any]:
    found = await PostgresJobs(database).many(job_ids)
    return [(found[one].args, found[one].result, *found[one].tags) for one in job_ids]


KNOWN, FORGOTTEN = ({"to": "Anna"}, "Anna", "Anna"), ({}, None)


async def test_a_queue_forgets_what_its_jobs_were_when_it_says(
    database: postgres.Database, history: HistoryStore
) -> None:
    queues = PostgresQueues(database)
    await queues.create(fresh("brief", retention={"completed_d": 2, "failed_d": None}))
    await queues.create(fresh("plain"))
    old = [await put(database, "brief", days) for days in (3.5, 4.5, 4.5)]
    young = await put(database, "brief", 0.5)
    failed, other = await put(database, "brief", 4.5, FAILED), await put(database, "plain", 4.5)
    for loops in range(2):
        # Two at once, and again: each job is forgotten once.
        await asyncio.gather(*(historian(history).run_once() for _ in range(2)))
        assert await args_of(database, *old) == [FORGOTTEN] * 3, loops
    assert await args_of(database, young, failed, other) == [KNOWN] * 3
    (known,) = (await PostgresJobs(database).many(old[:1])).values()
    assert (known.state, known.kind, known.errors) == ("completed", "k", [])

    await queues.change("brief", {"retention": {"completed_d": 2, "failed_d": 3}})
    await historian(history).run_once()
    assert await args_of(database, failed, young) == [FORGOTTEN, KNOWN]
    done = "select count(*) filter (where is_done), count(*) from history_sweep"
    assert await database.fetchrow(done) == (3, 3)


async def test_what_is_forgotten_in_steps_is_forgotten_whole(
    database: postgres.Database, history: HistoryStore
) -> None:
    await PostgresQueues(database).create(fresh("brief", retention={"completed_d": 1}))
    old = [await put(database, "brief", 3.5) for _ in range(5)]
    steps = 0
    while await history.forget_history(2):
        steps += 1
    assert steps == 4
    assert await args_of(database, *old) == [FORGOTTEN] * 5


async def test_days_are_dropped_when_their_time_is_over_whoever_does_it(
    database: postgres.Database, history: HistoryStore
) -> None:
    kept, gone = await put(database, "q", 6.5), await put(database, "q", 8.5)
    failed = await put(database, "q", 8.5, FAILED)
    outcomes = await asyncio.gather(
        *(historian(history).run_once() for _ in range(2)), return_exceptions=True
    )
    assert False in outcomes, outcomes
    await historian(history).run_once()
    assert (await PostgresJobs(database).many([kept, gone, failed])).keys() == {kept, failed}


async def test_of_a_long_history_few_days_are_opened_for_one_job(
    database: postgres.Database,
) -> None:
    await database.execute(
        "select keep_history_day(parent, current_date - day) "
        "from generate_series(0, 40) as day, unnest($1::text[]) as parent",
        [DONE, FAILED],
    )
    jobs = PostgresJobs(database)
    fresh_id, old_id = await put(database, "q", 0.0), await put(database, "q", 30.0)
    # By its number this one was made long after it ended.
    early = UUID(int=(2**47 << 80) | (7 << 76) | (2 << 62) | 1)
    await database.execute("update queue_job_done set id = $1 where id = $2", early, old_id)
    assert (await jobs.many([fresh_id, early])).keys() == {fresh_id, early}

    locked = (
        "select count(*) from pg_locks where pid = pg_backend_pid() "
        "and relation::regclass::text like 'queue_job_%_2%'"
    )
    async with database.transaction() as connection:
        await connection.fetch(JOBS.many_since, [fresh_id], datetime.now(UTC) - timedelta(days=1))
        # Three days ahead and two behind, of two histories; each with three indexes.
        assert 0 < await connection.fetchval(locked) <= 2 * 5 * 4
    async with database.transaction() as connection:
        worker = ids.new_id()
        await connection.execute("insert into worker (id, name) values ($1, 'w')", worker)
        await connection.fetch("select * from claim_jobs('q', $1, 10, 64)", worker)
        assert await connection.fetchval(locked) == 0
