"""What a job costs in this process, without a worker or HTTP: rates, and CPU of each side.

Microseconds of CPU a job, of the client and of all of PostgreSQL, hold on a machine that others use
too; rates do not.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from bench import bare, load, machine, ours
from bench.adapters import adapter
from bench.adapters.bare_loop import Bare
from bench.adapters.mainstay_queue import Mainstay
from localstack.servers.postgres import PostgresServer

CALLERS, PIECE = 50, 1000
FOREVER_S = 600.0
# A session that has ended is nobody's until the server has noticed.
REAPED_S = 0.1
STATEMENTS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "all",
    "pg_stat_statements.track_planning": "on",
}
TOP = r"""
select calls, total_plan_time, total_exec_time, (wal_bytes / 1024)::float8,
    left(regexp_replace(query, '\s+', ' ', 'g'), 90)
from pg_stat_statements order by total_plan_time + total_exec_time desc limit $1
"""
STEPS = ("single", "bulk", "claim and settle")


@dataclass(frozen=True, slots=True)
class Cost:
    per_s: float
    client_us: float
    server_us: float


async def engine(server: PostgresServer, jobs: int, *, statements: int = 0) -> None:
    """Half of the jobs come one by one, half by the thousand; then all are drained.

    `statements`: how many of ours to tell after each step, on a server with STATEMENTS.
    """
    mine = await _costs(server, Mainstay, ours.drain, jobs, statements)
    limits = await _costs(server, Bare, _drain_bare, jobs, 0)
    print(
        f"{'':24}{'ours':>11}{'bare':>11}{'ratio':>8}   CPU a job, µs: client + server", flush=True
    )
    for step, one, other in zip(STEPS, mine, limits, strict=True):
        print(
            f"{step:24}{one.per_s:9,.0f}/s{other.per_s:9,.0f}/s{one.per_s / other.per_s:8.2f}"
            f"   ours {one.client_us:.0f} + {one.server_us:.0f},"
            f" bare {other.client_us:.0f} + {other.server_us:.0f}",
            flush=True,
        )


async def _costs(
    server: PostgresServer,
    make: Callable[[str], adapter.Adapter],
    drain: Callable[[str], Awaitable[int]],
    jobs: int,
    statements: int,
) -> list[Cost]:
    dsn = await _fresh_database(server)
    queue, half = make(dsn), jobs // 2
    await queue.prepare()
    costs: list[Cost] = []
    async with _opened(queue), _measured(server, costs, half):
        await adapter.single(queue, half - adapter.WARM_UP, CALLERS, FOREVER_S)
    await _tell(dsn, STEPS[0], statements)
    async with _opened(queue), _measured(server, costs, half):
        await adapter.bulk(queue, half, PIECE, FOREVER_S)
    await _tell(dsn, STEPS[1], statements)
    await _settle_down(dsn)
    async with _measured(server, costs, 2 * half):
        if (done := await drain(dsn)) != 2 * half:
            raise load.LoadError(f"{done} of {2 * half} jobs were done")
    await _tell(dsn, STEPS[2], statements)
    return costs


@asynccontextmanager
async def _opened(queue: adapter.Adapter) -> AsyncIterator[None]:
    await queue.open()
    try:
        yield
    finally:
        await queue.close()


@asynccontextmanager
async def _measured(server: PostgresServer, costs: list[Cost], jobs: int) -> AsyncIterator[None]:
    began, client_s, server_s = time.perf_counter(), time.process_time(), machine.cpu_s(server.pid)
    yield
    took_s = time.perf_counter() - began
    await asyncio.sleep(REAPED_S)
    client_s, server_s = time.process_time() - client_s, machine.cpu_s(server.pid) - server_s
    costs.append(Cost(jobs / took_s, client_s / jobs * 1e6, server_s / jobs * 1e6))


async def _drain_bare(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return await bare.drain(connection)
    finally:
        await connection.close()


async def _tell(dsn: str, step: str, statements: int) -> None:
    """What took the server's time, also inside functions; then forgets it."""
    if not statements:
        return
    connection = await asyncpg.connect(dsn)
    await connection.execute("create extension if not exists pg_stat_statements")
    print(f"\n{step}: calls, ms in all to plan and to execute, WAL in KiB")
    for row in await connection.fetch(TOP, statements):
        print("{:8} {:9.1f} {:9.1f} {:9.0f}  {}".format(*row), flush=True)
    await connection.execute("select pg_stat_statements_reset()")
    await connection.close()


async def _settle_down(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("vacuum analyze")
    await connection.execute("checkpoint")
    await connection.close()


async def _fresh_database(server: PostgresServer) -> str:
    connection = await asyncpg.connect(server.url)
    await connection.execute("drop database if exists engine with (force)")
    await connection.execute("create database engine")
    await connection.close()
    return server.database_url("engine")
