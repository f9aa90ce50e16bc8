"""Fresh jobs go straight to a worker that is idle, and to nobody else; what is lost on its way
comes back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from chassis import crypto, postgres
from chassis.kernel import ids
from queue_service.core.jobs import NewJob, Unique, Verdict
from queue_service.core.queues import fresh
from queue_service.store.credit import PostgresCredit
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.queues import PostgresQueues
from queue_service.store.sealing import Seals
from testkit.signals import eventually

KEYS = f"k1:{crypto.new_key()}"
WORKER = ids.new_id()


def job(**more: Any) -> NewJob:
    plain = {"id": ids.new_id(), "kind": "k", "queue": "work", "args": {}, "fingerprint": "f"}
    return NewJob(**{**plain, "shop": "a", **more})


async def put(writer: EnqueueWriter, *jobs: NewJob) -> list[Verdict]:
    call = asyncio.ensure_future(writer.put(jobs))
    await asyncio.sleep(0)
    await writer.run_once()
    return [one.verdict for one in await call]


async def states(database: postgres.Database) -> list[str]:
    return [row["state"] for row in await database.fetch("select state from queue_job")]


class Line:
    """What a worker would hear."""

    def __init__(self, credit: PostgresCredit) -> None:
        self.credit = credit
        self.told: list[str] = []

    def hear(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self.told.append(str(payload))


@pytest_asyncio.fixture
async def line(database: postgres.Database, dsn: str) -> AsyncIterator[Line]:
    """An idle worker with credit for two jobs."""
    queues = PostgresQueues(database)
    for queue in (fresh("work", served_by="worker"), fresh("other", served_by="worker")):
        await queues.create(queue)
    await database.execute("insert into worker (id, name) values ($1, 'w')", WORKER)
    made = Line(PostgresCredit(database))
    assert await made.credit.offer("work", WORKER, 2)
    connection = await asyncpg.connect(dsn)
    await connection.add_listener(made.credit.channel, made.hear)
    yield made
    await connection.close()


async def test_a_job_for_an_idle_worker_is_its_own_and_told_to_it_whole(
    database: postgres.Database, writer: EnqueueWriter, line: Line
) -> None:
    new = job(args={"to": "+3069", "n": 1.5}, tags=["x", "y"], timeout_s=7.0, max_attempts=3)
    assert await put(writer, new) == [Verdict.CREATED]
    await eventually(lambda: line.told)
    given = line.credit.read(line.told[0])
    assert given is not None
    worker, claimed = given
    row = await database.fetchrow("select * from queue_job")
    assert row is not None
    assert (row["state"], row["worker"], row["attempt"], row["counted"]) == (
        "running", WORKER, 1, False,
    )  # fmt: skip
    assert worker == WORKER
    assert row["started_at"] is not None
    for field in claimed._fields:
        if field not in ("is_sealed", "is_broken", "retry"):
            assert getattr(claimed, field) == row[field], field
    assert claimed.args == new.args
    assert set(claimed.retry) == {"base_s", "factor", "max_s", "jitter"}
    assert await database.fetchval("select slots from credit") == 1
    assert await database.fetchval("select count(*) from lane where active") == 0


HELD_BACK = {
    "its queue is paused": "update queue set paused = true",
    "its queue is limited": "update queue set global_limit = 9",
    "its queue is pulled": "update queue set served_by = 'pull'",
    "its lane is capped": "update lane set cap = 9",
    "its lane is paused": "update lane set paused = true",
    "its lane is parked": "update lane set not_before = clock_timestamp() + interval '1 hour'",
    "its worker is silent": "update worker set beat_at = clock_timestamp() - interval '6 seconds'",
    "its worker is gone": "delete from worker",
    "the credit is spent": "update credit set slots = 0",
}


@pytest.mark.parametrize("why", HELD_BACK)
async def test_a_job_waits_like_any_other_when(
    database: postgres.Database, writer: EnqueueWriter, line: Line, why: str
) -> None:
    await database.fetch(
        "insert into lane (queue, shop) values ('work', 'a'), ('other', 'a') returning id"
    )
    await database.execute(HELD_BACK[why])
    await put(writer, job())
    assert await states(database) == ["ready"]
    assert await database.fetchval("select active from lane where queue = 'work'")
    assert line.told == []


NEVER_HANDED: dict[str, dict[str, Any]] = {
    "scheduled": {"run_at": datetime.now(UTC) + timedelta(hours=1)},
    "held": {"held": True},
    "of a batch": {"batch_id": ids.new_id()},
    "unique": {"unique": Unique(key=b"k" * 16, on_conflict="ignore", states=("ready",))},
    "promised earlier": {"created_at": datetime.now(UTC)},
    "too long": {"args": {"body": "x" * 8000}},
    "for a queue without credit": {"queue": "other"},
}


@pytest.mark.parametrize("what", NEVER_HANDED)
async def test_a_job_is_not_handed_over_that_is(
    database: postgres.Database, writer: EnqueueWriter, line: Line, what: str
) -> None:
    await put(writer, job(**NEVER_HANDED[what]))
    row = await database.fetchrow("select state, worker, attempt, seq from queue_job")
    assert row is not None
    assert row["state"] in ("ready", "scheduled", "held")
    assert (row["worker"], row["attempt"]) == (None, 0)
    assert row["seq"] > 0
    if row["state"] == "ready":
        assert await database.fetchval("select active from lane")
    assert line.told == []
    assert await database.fetchval("select slots from credit") == 2


async def test_nobody_is_passed_by_who_waits_in_the_queue(
    database: postgres.Database, writer: EnqueueWriter, line: Line
) -> None:
    await put(writer, job(created_at=datetime.now(UTC)))
    await put(writer, job(shop="b"))
    assert await states(database) == ["ready", "ready"]


async def test_more_jobs_than_there_is_credit_for_wait_all(
    database: postgres.Database, writer: EnqueueWriter, line: Line
) -> None:
    await put(writer, job(), job(), job())
    assert await states(database) == ["ready"] * 3


async def test_credit_is_spent_once_whoever_stores_at_the_same_time(
    database: postgres.Database, line: Line
) -> None:
    replicas = [EnqueueWriter(database) for _ in range(5)]
    await asyncio.gather(*(put(one, job(shop=str(n))) for n, one in enumerate(replicas)))
    given = [state for state in await states(database) if state == "running"]
    left = await database.fetchval("select slots from credit")
    assert 0 <= left == 2 - len(given)
    await eventually(lambda: len(line.told) == len(given))


async def test_jobs_are_spread_over_the_workers_that_are_idle(
    database: postgres.Database, writer: EnqueueWriter, line: Line
) -> None:
    other = ids.new_id()
    await database.execute("insert into worker (id, name) values ($1, 'v')", other)
    await line.credit.offer("work", other, 2)
    await put(writer, job(), job())
    rows = await database.fetch("select worker from queue_job")
    assert {row["worker"] for row in rows} == {WORKER, other}


async def test_a_repeat_of_what_has_ended_is_not_handed_over(
    database: postgres.Database, writer: EnqueueWriter, line: Line
) -> None:
    first = job()
    await put(writer, first)
    await eventually(lambda: line.told)
    await database.execute(
        "select * from settle_jobs(array[$1::uuid], '{1}', '{completed}', '{0}', '{null}',"
        " '{null}', '{}')",
        first.id,
    )
    assert await put(writer, first) == [Verdict.EXISTING]
    assert await states(database) == []
    assert await database.fetchval("select slots from credit") == 1
    assert len(line.told) == 1


async def test_sealed_args_travel_sealed(database: postgres.Database, line: Line) -> None:
    seals = Seals(crypto.Keyring(KEYS))
    await database.execute("update queue set sealed = true")
    new = job(args={"secret": "open sesame"})
    assert await put(EnqueueWriter(database, seals), new) == [Verdict.CREATED]
    await eventually(lambda: line.told)
    assert "sesame" not in line.told[0]
    given = PostgresCredit(database, seals).read(line.told[0])
    assert given is not None
    assert (given[1].args, given[1].is_sealed) == (new.args, True)


async def test_a_cap_that_is_set_meanwhile_counts_what_was_handed_over(
    database: postgres.Database, dsn: str, line: Line
) -> None:
    lane = await database.fetchval(
        "insert into lane (queue, shop) values ('work', 'a') returning id"
    )
    connection = await asyncpg.connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.fetch(
        "select * from store_jobs(array[$1::uuid], array[$2::bigint], '{k}', '{f}',"
        " array['{}'], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',"
        " '{}', null, true)",
        ids.new_id(), lane,
    )  # fmt: skip
    change = asyncio.ensure_future(PostgresQueues(database).change("work", {"per_shop_limit": 1}))
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
    await eventually(lambda: database.fetchval(waiting))
    await transaction.commit()
    await connection.close()
    assert await change
    assert await database.fetchval("select running from lane where id = $1", lane) == 1
