"""The hot statements keep to their indexes whatever the statistics say: they are always stale."""

from collections import Counter
from pathlib import Path

import pytest

import queue_service.store
from chassis import postgres
from chassis.kernel import ids
from queue_service.core.attempts import Settlement, Status, Verb
from queue_service.core.jobs import NewJob
from queue_service.core.leasing import Claim
from queue_service.loops.reconciler import Reconciler
from queue_service.store.engine import SETTINGS, EngineStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.pulse import PostgresPulse
from testkit.databases import Databases

MIGRATIONS = Path(queue_service.store.__file__).parent / "migrations"
LANES, BATCH, ROUNDS = 200, 50, 4
JOBS = """
insert into queue_job (
    id, lane, queue, kind, shop, state, priority, max_attempts, run_at, created_at, fingerprint,
    worker, args
)
select gen_random_uuid(), l.id, l.queue, 'test', l.shop, $3, 5, 5,
    now() + interval '1 day', now(), 'f', $4, '{}'
from generate_series(1, $1) as n join lane l on l.id = n % $2 + 1
"""
READS = """
select 'scan of ' || relname as what, seq_tup_read as many from pg_stat_user_tables
union all select indexrelname, idx_tup_read from pg_stat_user_indexes
"""


async def counted(database: postgres.Database) -> Counter[str]:
    """Rows that were read by scans of each table, and entries of each index, so far."""
    async with database.connection() as connection:
        await connection.execute("select pg_stat_force_next_flush()")
        rows = await connection.fetch(READS)
    return Counter({row["what"]: row["many"] for row in rows})


async def prepare(database: postgres.Database, *, rows: int, wrong: str) -> None:
    """A backlog that the statistics know nothing of, or know to be something else."""
    for table in ("queue_job", "lane"):
        await database.execute(f"alter table {table} set (autovacuum_enabled = off)")
    await database.execute(
        "insert into queue (name, served_by, concurrency, max_attempts, timeout_s, retry) "
        "values ('work', 'worker', 10, 5, 30, '{}')"
    )
    await database.execute(
        "insert into lane (queue, shop, active) "
        "select 'work', 'shop' || n || '.example', true from generate_series(1, $1) as n", LANES,
    )  # fmt: skip
    if wrong == "as if empty":
        await database.execute("analyze queue_job")
        await database.execute("analyze lane")
    elif wrong == "as if all ran":
        await database.execute(JOBS, 1000, 1, "running", ids.new_id())
        await database.execute("analyze queue_job")
        await database.execute("truncate queue_job")
    for state, share in (("ready", 0.5), ("scheduled", 0.3), ("running", 0.1), ("held", 0.1)):
        worker = ids.new_id() if state == "running" else None
        async with database.connection() as connection:
            await connection.execute(JOBS, round(rows * share), LANES, state, worker, timeout=300)


@pytest.mark.parametrize("wrong", ["never analysed", "as if empty", "as if all ran"])
@pytest.mark.parametrize(
    "rows", [50_000, pytest.param(1_000_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])]
)
async def test_hot_statements_read_what_they_handle_and_no_more(
    make_database: Databases, wrong: str, rows: int
) -> None:
    dsn = await make_database(MIGRATIONS)
    database = await postgres.open_database(
        dsn, size=4, application="test", settings={**SETTINGS, "statement_timeout": "0"}
    )
    plain = await postgres.open_database(dsn, size=4, application="test")
    await prepare(database, rows=rows, wrong=wrong)
    worker, pulse = ids.new_id(), PostgresPulse(dsn)
    await pulse.register(worker, "test")
    await pulse.close()
    # As the api enqueues, as the worker works.
    writer, store = EnqueueWriter(plain), EngineStore(database)
    before = await counted(database)
    ended: list[Settlement] = []
    for n in range(ROUNDS):
        await writer.put_all(
            [
                NewJob(
                    id=ids.new_id(), kind="test", queue="work", args={}, fingerprint="f",
                    shop=f"shop{1 + (n * BATCH + i) % LANES}.example",
                )
                for i in range(BATCH)
            ]
        )  # fmt: skip
        statuses, jobs, dry = await store.settle_and_claim(ended, Claim("work", worker, BATCH, 500))
        assert set(statuses) <= {Status.SETTLED}
        await store.wake(dry)
        verbs = (Verb.COMPLETED, Verb.FAILED, Verb.RETRY, Verb.SNOOZE, Verb.RELEASE)
        ended = [
            Settlement(id=job.id, lease_no=job.lease_no, verb=verbs[i % 5], delay_s=600.0)
            for i, job in enumerate(jobs)
        ]
        assert await store.stage(100) == 0
        await Reconciler(store).run_once()
    read = await counted(database) - before
    await plain.close()
    await database.close()
    assert read["scan of queue_job"] == 0, read
    assert read["queue_job_running"] == 0, read
    assert read["queue_job_newest"] == 0, read
    # Each job is touched a few times over its life; a backlog of a thousand times as many is not.
    for index in ("queue_job_pkey", "queue_job_ready", "queue_job_due"):
        assert read[index] <= 40 * ROUNDS * BATCH, read
    # Claims look at each open lane once; settles and wakes at their own.
    assert read["scan of lane"] <= 2 * LANES * ROUNDS, read
