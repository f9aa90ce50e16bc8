"""The worker process on a real Postgres: how many run at once, what a stop and a death leave."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest_asyncio
from aiohttp import web

from chassis import crypto, postgres
from chassis.kernel import ids
from mainstay import handler
from queue_service import worker
from queue_service.core.jobs import NewJob
from queue_service.settings import WorkerSettings
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.jobs import PostgresJobs
from queue_service.store.sealing import Seals
from testkit.faults import TcpProxy
from testkit.signals import eventually

RETRY = {"base_s": 0.01, "factor": 2.0, "max_s": 0.05, "jitter": 0.5}
Start = Callable[..., Awaitable[web.AppRunner]]


class Gate:
    """A handler that waits until it is let go, and counts who is inside."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.ran: list[UUID] = []
        self.open = asyncio.Event()

    async def __call__(self, args: Any, ctx: handler.Context) -> dict[str, bool]:
        self.ran.append(ctx.job.id)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.open.wait()
        finally:
            self.inside -= 1
        return {"done": True}


@pytest_asyncio.fixture
async def start(dsn: str, database: postgres.Database, tmp_path: Path) -> AsyncIterator[Start]:
    """Start a worker process (in this one); `cleanup()` is its SIGTERM."""
    await database.execute(
        "insert into queue (name, served_by, concurrency, max_attempts, timeout_s, retry) "
        "values ('work', 'worker', 3, 5, 30, $1)",
        RETRY,
    )
    private, _ = crypto.new_service_key()
    async with AsyncExitStack() as stack:

        async def begin(*handlers: handler.Handler[Any], **settings: Any) -> web.AppRunner:
            given = {
                "database_url": dsn,
                "service_key": private,
                "service_keys_dir": tmp_path,
                "ratelimit_service_url": "http://127.0.0.1:9",
                "queue_poll_interval_s": 0.1,
                "drain_timeout_s": 1.0,
                **settings,
            }
            app = worker.create_app(
                WorkerSettings.model_validate(given), handlers=handler.registry(handlers)
            )
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            return runner

        yield begin


def of(call: Any, kind: str = "gate", **options: Any) -> handler.Handler[Any]:
    made: handler.Handler[Any] = handler.handler(kind, **options)(call)
    return made


async def put(writer: EnqueueWriter, count: int, kind: str = "gate", **more: Any) -> list[UUID]:
    jobs = [
        NewJob(id=ids.new_id(), kind=kind, queue="work", args={}, fingerprint="f", **more)
        for _ in range(count)
    ]
    await writer.put_all(jobs)
    return [job.id for job in jobs]


async def states(database: postgres.Database) -> dict[str, int]:
    rows = await database.fetch("select state, count(*) as n from any_job group by state")
    return {row["state"]: row["n"] for row in rows}


async def test_no_more_run_at_once_than_the_queue_says_and_the_limit_is_live(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    await put(writer, 20)
    await start(of(gate))
    await eventually(lambda: gate.inside == 3)
    await database.execute("update queue set concurrency = 5 where name = 'work'")
    await database.execute("notify queue_changed")
    await eventually(lambda: gate.inside == 5)
    gate.open.set()

    async def all_done() -> bool:
        return await states(database) == {"completed": 20}

    await eventually(all_done)
    assert gate.most == 5
    assert len(set(gate.ran)) == 20


async def test_quick_jobs_are_leased_ahead_and_each_runs_once(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    ran: list[UUID] = []

    async def quick(args: Any, ctx: handler.Context) -> None:
        ran.append(ctx.job.id)

    wanted = await put(writer, 2000)
    await start(of(quick))

    async def all_done() -> bool:
        return await states(database) == {"completed": 2000}

    await eventually(all_done, 20.0)
    assert sorted(ran) == sorted(wanted)


async def test_a_job_that_comes_to_an_idle_worker_needs_no_poll(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    gate.open.set()
    await start(of(gate), queue_poll_interval_s=60.0)
    listening = "select count(*) from pg_stat_activity where query ilike 'listen%'"
    await eventually(lambda: database.fetchval(listening), 10.0)
    await put(writer, 1)
    await eventually(lambda: len(gate.ran) == 1)


async def test_a_stop_lets_running_jobs_end_and_gives_the_rest_back_at_once(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    await put(writer, 10)
    runner = await start(of(gate), drain_timeout_s=20.0)
    await eventually(lambda: gate.inside == 3)
    stopping = asyncio.create_task(runner.cleanup())
    asyncio.get_running_loop().call_later(0.2, gate.open.set)
    await stopping
    assert await states(database) == {"completed": 3, "ready": 7}
    assert await database.fetchval("select max(attempt) from queue_job") == 0
    assert await database.fetchval("select count(*) from worker") == 0


async def test_what_does_not_end_in_time_is_interrupted_and_goes_back_unspent(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    await put(writer, 2)
    runner = await start(of(gate), drain_timeout_s=0.5)
    await eventually(lambda: gate.inside == 2)
    await runner.cleanup()
    rows = await database.fetch("select state, attempt, lease_no from queue_job")
    assert [tuple(row) for row in rows] == [("ready", 0, 1), ("ready", 0, 1)]


async def test_a_cancelled_job_hears_of_it_while_it_runs(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    async def patient(args: Any, ctx: handler.Context) -> handler.Cancel:
        await ctx.cancelled.wait()
        return handler.Cancel("as you wish")

    (job_id,) = await put(writer, 1)
    await start(of(patient))

    async def is_running() -> bool:
        return await states(database) == {"running": 1}

    await eventually(is_running)
    await database.execute("select cancel_jobs($1)", [job_id])

    async def is_cancelled() -> bool:
        return await states(database) == {"cancelled": 1}

    await eventually(is_cancelled, 10.0)


async def test_failures_are_tried_again_until_the_attempts_are_spent(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    async def broken(args: Any, ctx: handler.Context) -> None:
        raise ValueError(f"attempt {ctx.job.attempt}")

    await put(writer, 1, max_attempts=3)
    await start(of(broken))

    async def failed() -> bool:
        return await states(database) == {"failed": 1}

    await eventually(failed, 10.0)
    errors = await database.fetchval("select errors from queue_job_failed")
    assert [one["message"] for one in errors] == ["attempt 1", "attempt 2", "attempt 3"]


async def test_a_job_nobody_can_run_waits_without_spending_attempts(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    await put(writer, 1, kind="unknown")
    await start(of(Gate()))

    async def snoozed() -> bool:
        row = await database.fetchrow("select state, attempt, snoozes from queue_job")
        return row is not None and tuple(row) == ("scheduled", 0, 1)

    await eventually(snoozed)


async def test_a_worker_taken_for_dead_loses_its_jobs_and_goes_on_under_a_new_name(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    told = asyncio.Event()
    effects: list[bool] = []

    async def careful(args: Any, ctx: handler.Context) -> None:
        if ctx.job.attempt == 1:
            await ctx.cancelled.wait()
            told.set()
        effects.append(await ctx.once("effect"))

    await put(writer, 1)
    await start(of(careful))

    async def is_running() -> bool:
        return await states(database) == {"running": 1}

    await eventually(is_running)
    (old,) = [row["id"] for row in await database.fetch("select id from worker")]
    await database.execute("delete from worker")

    async def all_done() -> bool:
        return await states(database) == {"completed": 1}

    await eventually(all_done, 20.0)
    assert told.is_set()
    assert effects == [True]
    assert [row["id"] for row in await database.fetch("select id from worker")] != [old]


async def test_an_ending_waits_for_a_database_that_is_away(
    dsn: str, start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    await put(writer, 3)
    async with TcpProxy.before(dsn) as proxy:
        runner = await start(of(gate), database_url=proxy.url(dsn))
        await eventually(lambda: gate.inside == 3)
        await proxy.refuses()
        gate.open.set()
        await eventually(lambda: gate.inside == 0)
        assert await states(database) == {"running": 3}
        await proxy.passes()

        async def all_done() -> bool:
            return await states(database) == {"completed": 3}

        await eventually(all_done, 20.0)
        assert len(gate.ran) == 3
        await runner.cleanup()


async def test_a_sealed_job_is_opened_to_run_and_one_that_cannot_be_is_not_run(
    start: Start, database: postgres.Database
) -> None:
    await database.execute("update queue set sealed = true, max_attempts = 1 where name = 'work'")
    keys, seen = f"k1:{crypto.new_key()}", []

    async def echo(args: Any, ctx: handler.Context) -> Any:
        seen.append(args)
        return args

    writer = EnqueueWriter(database, Seals.of(keys))
    jobs = [
        NewJob(id=ids.new_id(), kind="echo", queue="work", args={"n": n}, fingerprint="f")
        for n in range(2)
    ]
    await writer.put_all(jobs)
    first, second = (job.id for job in jobs)
    steal = "update queue_job set args = (select args from queue_job where id = $1) where id = $2"
    await database.execute(steal, first, second)
    await start(of(echo, "echo"), queue_keys=keys)

    async def over() -> bool:
        return await states(database) == {"completed": 1, "failed": 1}

    await eventually(over)
    assert seen == [{"n": 0}]
    rows = await database.fetch("select id, errors, result from any_job")
    told = {UUID(bytes=row["id"].bytes): row for row in rows}
    assert told[second]["errors"][-1]["type"] == "decrypt_failed"
    assert isinstance(told[first]["result"], str)
    opened = await PostgresJobs(database, seals=Seals.of(keys)).get(first)
    assert opened is not None
    assert opened.result == {"n": 0}


async def test_an_ending_that_cannot_be_stored_harms_itself_alone(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    async def odd(args: Any, ctx: handler.Context) -> dict[str, str]:
        return {"x": "\u0000"}

    async def wrong(args: Any, ctx: handler.Context) -> handler.Snooze:
        return handler.Snooze("5")  # type: ignore[arg-type]

    async def good(args: Any, ctx: handler.Context) -> dict[str, str]:
        return {"x": "y"}

    for kind in ("odd", "wrong", "good"):
        await put(writer, 1, kind=kind)
    await start(of(odd, "odd"), of(wrong, "wrong"), of(good, "good"))

    async def all_ended() -> bool:
        return await states(database) == {"completed": 1, "failed": 2}

    await eventually(all_ended, 10.0)
    rows = await database.fetch("select kind, errors from queue_job_failed")
    types = {row["kind"]: row["errors"][-1]["type"] for row in rows}
    assert types == {"odd": "unstorable", "wrong": "wrong_outcome"}


async def test_a_queue_that_workers_no_longer_serve_gives_its_jobs_back(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    wanted = await put(writer, 200)
    quick = Gate()
    quick.open.set()
    await put(writer, 50, kind="quick")
    await start(of(gate), of(quick, "quick"))
    await eventually(lambda: gate.inside == 3)
    await database.execute("update queue set served_by = 'pull' where name = 'work'")
    await database.execute("notify queue_changed")

    async def only_three_run() -> bool:
        return (await states(database)).get("running") == 3

    await eventually(only_three_run, 10.0)
    gate.open.set()

    async def none_runs() -> bool:
        return "running" not in await states(database)

    await eventually(none_runs, 10.0)
    assert len(set(gate.ran) & set(wanted)) == 3


async def test_a_claim_that_is_answered_during_a_stop_is_given_back(
    dsn: str, start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    async with TcpProxy.before(dsn) as proxy:
        runner = await start(
            of(gate), database_url=proxy.url(dsn), drain_timeout_s=5.0, queue_poll_interval_s=60.0
        )
        await credit_of(database, 3)  # it has looked, and found nothing
        proxy.delays(0.3)
        await put(writer, 3, max_attempts=1)
        await eventually(lambda: running(database), 10.0)
        await runner.cleanup()
    assert await states(database) == {"ready": 3}
    assert await database.fetchval("select max(attempt) from queue_job") == 0
    assert gate.ran == []


async def running(database: postgres.Database) -> bool:
    """A claim has been committed; its answer is still on its way."""
    return (await states(database)).get("running") == 3


# Jobs that are handed over to an idle worker.


async def hand(writer: EnqueueWriter, kind: str = "gate") -> UUID:
    """Stored as the api does it: alone, and at once."""
    job = NewJob(id=ids.new_id(), kind=kind, queue="work", args={}, fingerprint="f")
    call = asyncio.ensure_future(writer.put([job]))
    await asyncio.sleep(0)
    await writer.run_once()
    await call
    return job.id


async def credit_of(database: postgres.Database, slots: int) -> None:
    async def is_offered() -> bool:
        return bool(
            await database.fetchval("select slots from credit where queue = 'work'") == slots
        )

    await eventually(is_offered, 10.0)


async def test_an_idle_worker_starts_what_it_is_handed_without_a_look(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    await start(of(gate), queue_poll_interval_s=60.0)
    await credit_of(database, 3)
    wanted = await hand(writer)
    await eventually(lambda: gate.ran == [wanted])
    row = await database.fetchrow("select seq, attempt, lease_no from queue_job")
    assert row is not None
    assert tuple(row) == (0, 1, 1)
    gate.open.set()

    async def is_done() -> bool:
        return await states(database) == {"completed": 1}

    await eventually(is_done)


async def test_what_is_lost_on_its_way_to_a_worker_is_run_once_soon(
    start: Start, database: postgres.Database, writer: EnqueueWriter, dsn: str
) -> None:
    gate = Gate()
    runner = await start(of(gate))
    await credit_of(database, 3)
    await database.execute("update credit set channel = 'elsewhere'")
    told: list[str] = []
    connection = await asyncpg.connect(dsn)
    await connection.add_listener("elsewhere", lambda *said: told.append(said[-1]))
    wanted = await hand(writer)
    await eventually(lambda: told)
    assert gate.ran == []
    await eventually(lambda: gate.ran == [wanted], 8.0)
    row = await database.fetchrow("select attempt, lease_no, kills from queue_job")
    assert row is not None
    assert tuple(row) == (1, 2, 0)
    # It was given back: whatever is told of that lease now comes too late.
    runner.app[worker.HANDOFFS].heard(told[0])
    gate.open.set()

    async def is_done() -> bool:
        return await states(database) == {"completed": 1}

    await eventually(is_done)
    runner.app[worker.HANDOFFS].heard(told[0].replace(str(await its_id(database)), str(wanted)))
    assert gate.ran == [wanted]
    await connection.close()


async def its_id(database: postgres.Database) -> Any:
    return await database.fetchval("select id from worker")


async def test_a_worker_that_has_no_hand_free_gives_back_what_it_is_handed(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    gate = Gate()
    await start(of(gate), queue_poll_interval_s=60.0)
    await credit_of(database, 3)
    await put(writer, 3)
    await eventually(lambda: gate.inside == 3)
    # As if another worker had looked and found nothing more.
    await database.execute("update lane set active = false")
    await hand(writer)

    async def is_back() -> bool:
        return await states(database) == {"running": 3, "ready": 1}

    await eventually(is_back)
    row = await database.fetchrow("select attempt, lease_no from queue_job where state = 'ready'")
    assert row is not None
    assert tuple(row) == (0, 1)

    async def is_withdrawn() -> bool:
        return not await database.fetchval("select count(*) from credit where queue = 'work'")

    await eventually(is_withdrawn)
    gate.open.set()

    async def all_done() -> bool:
        return await states(database) == {"completed": 4}

    await eventually(all_done)
    assert len(set(gate.ran)) == 4


async def test_a_worker_that_stops_is_handed_nothing(
    start: Start, database: postgres.Database, writer: EnqueueWriter
) -> None:
    runner = await start(of(Gate()))
    await credit_of(database, 3)
    stopping = asyncio.create_task(runner.cleanup())
    for _ in range(5):
        await hand(writer)
    await stopping
    await hand(writer)
    assert await states(database) == {"ready": 6}
    assert await database.fetchval("select max(kills) from queue_job") == 0
    assert await database.fetchval("select count(*) from credit where queue = 'work'") == 0
