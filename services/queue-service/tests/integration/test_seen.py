"""What is measured of queues and of the database: true, and bounded."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import structlog.testing
from prometheus_client import REGISTRY

from chassis import postgres
from chassis.kernel import ids
from queue_service.core.jobs import NewJob
from queue_service.core.queues import fresh
from queue_service.loops.horizon import HorizonGuard
from queue_service.loops.sampler import DepthSampler
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.horizon import PostgresHorizon
from queue_service.store.queues import PostgresQueues
from testkit.signals import eventually

SHOP, OTHER = "a.example", "b.example"
HOUR_S = 3600.0


@pytest_asyncio.fixture
async def queues(database: postgres.Database) -> PostgresQueues:
    queues = PostgresQueues(database)
    await queues.create(fresh("q"))
    return queues


async def ready(
    writer: EnqueueWriter, ago_s: float, shop: str = SHOP, priority: int = 5, queue: str = "q"
) -> None:
    """A job that has been due for so long."""
    due = datetime.now(UTC) - timedelta(seconds=ago_s)
    await writer.put_all([
        NewJob(id=ids.new_id(), kind="k", queue=queue, args={}, fingerprint="f", shop=shop,
               run_at=due, created_at=due, priority=priority)
    ])  # fmt: skip


async def age_s(queues: PostgresQueues) -> float | None:
    queue = await queues.get("q")
    assert queue is not None
    return None if queue.oldest_ready_age_s is None else round(queue.oldest_ready_age_s, -1)


def sampled(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_the_oldest_job_counts_whatever_its_lane_and_priority(
    queues: PostgresQueues, writer: EnqueueWriter
) -> None:
    assert await age_s(queues) is None
    await ready(writer, 100.0, priority=0)
    await ready(writer, HOUR_S, priority=9)
    await ready(writer, 200.0, OTHER)
    await ready(writer, -HOUR_S, OTHER)
    assert await age_s(queues) == HOUR_S
    await DepthSampler(queues).run_once()
    gauge = sampled("queue_oldest_ready_age_seconds", queue="q")
    assert gauge is not None and round(gauge, -1) == HOUR_S
    assert sampled("queue_jobs", queue="q", state="ready") == 3
    assert sampled("queue_jobs", queue="q", state="scheduled") == 1
    assert sampled("queue_oldest_ready_age_seconds", queue="webhooks") in (None, 0)


async def test_what_may_not_run_now_does_not_wait_for_a_worker(
    database: postgres.Database, queues: PostgresQueues, writer: EnqueueWriter
) -> None:
    await ready(writer, HOUR_S)
    await ready(writer, 100.0, OTHER)

    async def lane(change: str) -> None:
        await database.execute(f"update lane set {change} where shop = $1", SHOP)

    for held, free in (
        ("paused = true", "paused = false"),
        ("cap = 2, running = 2", "running = 1"),
        ("not_before = clock_timestamp() + interval '1 minute'", "not_before = null"),
    ):
        await lane(held)
        assert await age_s(queues) == 100.0, held
        await lane(free)
        assert await age_s(queues) == HOUR_S, free
    await database.execute("update queue set global_limit = 1, running = 1 where name = 'q'")
    assert await age_s(queues) is None
    await database.execute("update queue set global_limit = null where name = 'q'")

    await queues.change("q", {"paused": True})
    assert await age_s(queues) is None
    await DepthSampler(queues).run_once()
    assert sampled("queue_oldest_ready_age_seconds", queue="q") == 0
    await queues.change("q", {"paused": False})
    assert await age_s(queues) == 0, "it has waited since then only"


FILL = """
insert into queue_job (id, lane, queue, kind, shop, state, priority, max_attempts, run_at,
    created_at, fingerprint, args)
select gen_random_uuid(), l.id, l.queue, 'k', l.shop, $2, 5, 5, now(), now(), 'f',
    jsonb_build_object('x', repeat('x', 300))
from lane l, generate_series(1, $3) where l.shop = $1
"""


async def test_a_table_that_is_too_big_is_judged_by_a_sample_and_small_states_are_counted(
    database: postgres.Database, queues: PostgresQueues, writer: EnqueueWriter
) -> None:
    await queues.create(fresh("small"))
    await ready(writer, 1.0)
    await ready(writer, 1.0, OTHER, queue="small")
    for state, jobs in (("scheduled", 12_000), ("running", 700), ("ready", 9_999)):
        await database.execute(FILL, SHOP, state, jobs)
    (small,) = await queues.page(after="q", limit=1)
    (all_counted,) = await queues.page(after="p", limit=1)
    assert (small.depth, small.depth_is_estimate) == ({"ready": 1}, False)
    counted = {"ready": 10_000, "scheduled": 12_000, "running": 700}
    assert (all_counted.depth, all_counted.depth_is_estimate) == (counted, False)

    await database.execute(FILL, SHOP, "ready", 15_000)
    judged, small = await queues.page(after="p", limit=2)
    assert (small.depth, small.depth_is_estimate) == ({"ready": 1}, False)
    jobs = judged.depth["ready"]
    assert judged.depth == {**counted, "ready": jobs}
    assert 0.6 * 25_000 < jobs < 1.4 * 25_000
    assert judged.depth_is_estimate


@pytest_asyncio.fixture
async def stranger(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "report"})
    yield connection
    await connection.close()


async def horizon_of(guard: HorizonGuard) -> Any:
    await guard.run_once()
    return guard.facts()


@pytest.mark.parametrize("held_by", ["select count(*) from queue", "select txid_current()"])
async def test_who_keeps_dead_rows_in_place_is_named_before_it_hurts(
    database: postgres.Database, stranger: asyncpg.Connection, held_by: str
) -> None:
    guard = HorizonGuard(PostgresHorizon(database), warn_after_s=0.0)
    await stranger.execute("begin isolation level repeatable read")
    await stranger.fetch(held_by)
    await database.execute("create table written (n integer)")
    pid = stranger.get_server_pid()
    with structlog.testing.capture_logs() as logged:
        told = await horizon_of(guard)
        await guard.run_once()
    assert (told["holder"], told["name"]) == ("session", f"report pid {pid}")
    assert told["transactions"] >= 1
    assert [line["name"] for line in logged] == [f"report pid {pid}"], "once a minute"
    gauge = sampled("queue_horizon_age_seconds")
    assert gauge is not None and gauge > 0
    await stranger.execute("commit")

    async def is_gone() -> bool:
        told = await horizon_of(guard)
        return not told or told["name"] != f"report pid {pid}"

    await eventually(is_gone)


async def test_a_guard_that_may_not_see_since_when_counts_from_when_it_first_saw(
    dsn: str, stranger: asyncpg.Connection
) -> None:
    database = await postgres.open_database(dsn, size=1, application="test")
    await database.execute("set role pg_signal_backend")
    guard = HorizonGuard(PostgresHorizon(database), warn_after_s=0.0)
    await stranger.execute("begin isolation level repeatable read")
    await stranger.fetch("select count(*) from queue")
    held = await PostgresHorizon(database).oldest()
    assert held is not None
    assert (held.key, held.age_s) == (f"report pid {stranger.get_server_pid()}", None)
    await guard.run_once()
    told = sampled("queue_horizon_age_seconds")
    assert told == 0.0
    await guard.run_once()
    assert (sampled("queue_horizon_age_seconds") or 0.0) > told
    await stranger.execute("commit")
    await database.close()


async def test_a_short_transaction_is_not_worth_a_word(
    database: postgres.Database, stranger: asyncpg.Connection
) -> None:
    guard = HorizonGuard(PostgresHorizon(database))
    await stranger.execute("begin isolation level repeatable read")
    await stranger.fetch("select count(*) from queue")
    with structlog.testing.capture_logs() as logged:
        assert await horizon_of(guard) == {}
    assert logged == []
    await asyncio.wait_for(stranger.execute("commit"), 5)
