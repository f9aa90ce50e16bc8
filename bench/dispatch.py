"""What telling idle workers is worth: from the enqueue's call to the handler's start, by how they
are told, and how many transactions the server makes of a job.

One job at a time, for a worker that is idle; writer and worker share this process.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from aiohttp import web

from bench import ours
from chassis import crypto, postgres
from chassis import redis as accelerators
from chassis.kernel import ids
from localstack.servers.pgbouncer import PgBouncerServer
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from mainstay import handler
from queue_service import worker
from queue_service.cache.offers import RedisAnnouncer
from queue_service.core.dispatch import Announced
from queue_service.core.jobs import NewJob
from queue_service.settings import WorkerSettings
from queue_service.store.enqueue import EnqueueWriter

EVERY_S = 0.02
# Statistics of the server come late.
SETTLED_S, IDLE_S = 1.5, 3.0
# Without being told it takes half a second each.
UNTOLD_SHARE = 0.1


@dataclass(slots=True)
class Starts:
    """A handler that says when it began."""

    begun: dict[str, asyncio.Future[float]] = field(default_factory=dict)

    async def __call__(self, _args: Any, ctx: handler.Context) -> None:
        self.begun[str(ctx.job.id)].set_result(time.perf_counter())


async def dispatch(server: PostgresServer, home: Path, jobs: int) -> None:
    with (
        RedisServer(home / "redis") as redis,
        PgBouncerServer(home / "pgbouncer", before=server.url) as pooler,
    ):
        through = {"postgres_pooler": "transaction"}
        told = {**through, "redis_url": redis.url}
        print("told by                       p50 ms  p99 ms  transactions/job")
        await _measure(server, "notification, and hand-off", jobs, {})
        few = max(1, int(jobs * UNTOLD_SHARE))
        await _measure(server, "nobody, behind a pooler", few, through, pooler)
        await _measure(server, "Redis, behind a pooler", jobs, told, pooler)


async def _measure(
    server: PostgresServer,
    name: str,
    jobs: int,
    settings: dict[str, Any],
    pooler: PgBouncerServer | None = None,
) -> None:
    dsn = await _database(server)
    await ours.prepare(dsn, concurrency=10)
    led = pooler.database_url(dsn) if pooler else dsn
    starts = Starts()
    async with _writer(led, settings) as intake, _worker(led, settings, server, starts):
        await _one(intake, starts)
        idle = await _rate(dsn)
        before, since = await _transactions(dsn), time.perf_counter()
        took = [await _one(intake, starts) for _ in range(jobs)]
        await asyncio.sleep(SETTLED_S)
        made = await _transactions(dsn) - before
        of_jobs = (made - idle * (time.perf_counter() - since)) / jobs
    p50, p99 = statistics.median(took), sorted(took)[int(len(took) * 0.99)]
    print(f"{name:28}  {1e3 * p50:6.1f}  {1e3 * p99:6.1f}  {of_jobs:6.1f}")


async def _one(intake: Announced, starts: Starts) -> float:
    await asyncio.sleep(EVERY_S)
    job = NewJob(
        id=ids.new_id(), kind="bench", queue=ours.QUEUE, args={}, fingerprint="f", is_secret=True
    )
    begun = starts.begun[str(job.id)] = asyncio.get_running_loop().create_future()
    called = time.perf_counter()
    await intake.put([job])
    async with asyncio.timeout(30):
        started: float = await begun
    return started - called


@asynccontextmanager
async def _writer(dsn: str, settings: dict[str, Any]) -> AsyncIterator[Announced]:
    """As the api wires it."""
    url = settings.get("redis_url")
    redis = accelerators.Accelerator(accelerators.connect(url) if url else None)
    announcer = RedisAnnouncer(redis)
    database = await postgres.open_database(
        dsn, size=4, application="bench", pooled="postgres_pooler" in settings
    )
    writer = EnqueueWriter(database)
    tasks = [asyncio.create_task(one.run()) for one in (writer, announcer)]
    try:
        yield Announced(writer, [announcer])
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await redis.close()
        await database.close()


@asynccontextmanager
async def _worker(
    dsn: str, settings: dict[str, Any], server: PostgresServer, starts: Starts
) -> AsyncIterator[None]:
    given = WorkerSettings.model_validate(
        {
            "database_url": dsn,
            "service_key": crypto.new_service_key()[0],
            "service_keys_dir": server.home,
            "ratelimit_service_url": "http://127.0.0.1:9",
            **settings,
        }
    )
    known = handler.registry([handler.handler("bench")(starts)])
    runner = web.AppRunner(worker.create_app(given, handlers=known))
    async with AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await asyncio.sleep(SETTLED_S)
        yield


async def _database(server: PostgresServer) -> str:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute("drop database if exists dispatch with (force)")
        await connection.execute("create database dispatch")
    finally:
        await connection.close()
    return server.database_url("dispatch")


async def _rate(dsn: str) -> float:
    """Transactions a second, of this worker while it is idle."""
    await asyncio.sleep(SETTLED_S)
    before = await _transactions(dsn)
    await asyncio.sleep(IDLE_S)
    return (await _transactions(dsn) - before) / IDLE_S


async def _transactions(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(
            await connection.fetchval(
                "select xact_commit from pg_stat_database where datname = current_database()"
            )
        )
    finally:
        await connection.close()
