"""`python -m bench [enqueue] [drain] [http] [memory]`: our figures beside bare limits, in one run.

A figure alone says more about the machine than about us; the ratio is what to compare. Everything
runs on PostgreSQL alone, durable (fsync on), without Redis and RabbitMQ.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import uvloop

from bench import bare, load, ours, stack
from localstack.servers import ports, process
from localstack.servers.postgres import PostgresServer

CALLERS = 500
CONNECTIONS = 50
WARM_UP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    jobs: int
    seconds: float


class Table:
    """Ours and bare, side by side, printed as they come."""

    def __init__(self) -> None:
        print(f"{'':34}{'ours':>14}{'bare':>14}{'ratio':>8}   p50 / p99", flush=True)

    def line(self, what: str, rate: load.Rate, beside: load.Rate) -> None:
        told = f"{rate.per_s / beside.per_s:8.2f}"
        if rate.p50_ms is not None and rate.p99_ms is not None:
            told += f"   {rate.p50_ms:.1f} / {rate.p99_ms:.1f} ms"
        print(f"{what:34}{rate.per_s:12,.0f}/s{beside.per_s:12,.0f}/s{told}", flush=True)


@contextmanager
def folder() -> Iterator[Path]:
    """Where the account that runs Postgres for root can go as well."""
    with tempfile.TemporaryDirectory(prefix="mainstay-bench-", dir="/var/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


async def fresh_database(server: PostgresServer, name: str) -> str:
    connection = await asyncpg.connect(server.url)
    await connection.execute(f'drop database if exists "{name}" with (force)')
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return server.database_url(name)


async def bare_enqueue(server: PostgresServer, size: Size) -> load.Rate:
    connection = await asyncpg.connect(await fresh_database(server, "bare"))
    await connection.execute(bare.SCHEMA)
    inserts = bare.Inserts(connection)
    call = lambda: inserts.enqueue("bench.noop", {"n": 1})  # noqa: E731
    await load.calls(call, total=round(size.jobs * WARM_UP), callers=CALLERS)
    rate = await load.calls(call, total=size.jobs, callers=CALLERS)
    await inserts.close()
    await connection.close()
    return rate


async def our_enqueue(server: PostgresServer, size: Size) -> load.Rate:
    dsn = await fresh_database(server, "ours")
    await ours.prepare(dsn)
    async with ours.database(dsn) as database:
        enqueuer = ours.Enqueuer(database)
        await load.calls(enqueuer.enqueue, total=round(size.jobs * WARM_UP), callers=CALLERS)
        rate = await load.calls(enqueuer.enqueue, total=size.jobs, callers=CALLERS)
        await enqueuer.close()
        return rate


async def bare_drain(server: PostgresServer, size: Size) -> load.Rate:
    connection = await asyncpg.connect(await fresh_database(server, "bare"))
    await connection.execute(bare.SCHEMA)
    await bare.fill(connection, size.jobs)
    started = time.perf_counter()
    done = await bare.drain(connection)
    took_s = time.perf_counter() - started
    await connection.close()
    return _all(done, size, took_s)


async def our_drain(server: PostgresServer, size: Size) -> load.Rate:
    dsn = await fresh_database(server, "ours")
    await ours.prepare(dsn)
    async with ours.database(dsn) as database:
        enqueuer = ours.Enqueuer(database)
        await enqueuer.fill(size.jobs)
        await enqueuer.close()
    started = time.perf_counter()
    done = await ours.drain(dsn)
    return _all(done, size, time.perf_counter() - started)


def _all(done: int, size: Size, took_s: float) -> load.Rate:
    if done != size.jobs:
        raise load.LoadError(f"{done} of {size.jobs} jobs were done")
    return load.Rate(done / took_s)


def enqueue(server: PostgresServer, size: Size, table: Table) -> None:
    limit = uvloop.run(bare_enqueue(server, size))
    table.line("enqueue, in process", uvloop.run(our_enqueue(server, size)), limit)


def drain(server: PostgresServer, size: Size, table: Table) -> None:
    limit = uvloop.run(bare_drain(server, size))
    table.line("drain, claim and settle", uvloop.run(our_drain(server, size)), limit)


@contextmanager
def bare_server() -> Iterator[str]:
    port = ports.free_port()
    with subprocess.Popen([sys.executable, "-m", "bench.bare_http", str(port)]) as child:
        try:
            process.wait_until(lambda: not ports.is_free(port), within_s=10)
            yield f"http://127.0.0.1:{port}/v1/jobs"
        finally:
            child.terminate()


def http(running: stack.Running, size: Size, table: Table, scratch: Path) -> None:
    """A pull queue that nobody pulls from: only what it costs to accept a job is measured."""
    asyncio.run(_add_queue(running))

    def post(url: str, token: str = "") -> load.Rate:
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return load.http(
            url, headers=headers, seconds=size.seconds, connections=CONNECTIONS, scratch=scratch
        )

    with bare_server() as url:
        limit = post(url)
    table.line("POST /v1/jobs, queue-service",
               post(f"{running.queue_url}/v1/jobs", running.service_token()), limit)  # fmt: skip
    table.line("POST /v1/jobs, through gateway",
               post(f"{running.gateway_url}/v1/jobs", running.admin_key), limit)  # fmt: skip


async def _add_queue(running: stack.Running) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            f"{running.gateway_url}/v1/queues/{ours.QUEUE}",
            json={"served_by": "pull"},
            headers={"Authorization": f"Bearer {running.admin_key}"},
        ) as answer,
    ):
        if answer.status >= 300:
            raise load.LoadError(f"PUT queue: {answer.status} {(await answer.text())[:300]}")


def memory(running: stack.Running) -> None:
    print("\nidle memory (PSS)", flush=True)
    for name, megabytes in running.memory_mb().items():
        print(f"  {name:20}{megabytes:8.1f} MB", flush=True)


IN_PROCESS: dict[str, Callable[[PostgresServer, Size, Table], None]] = {
    "enqueue": enqueue,
    "drain": drain,
}
OVER_HTTP = ("http", "memory")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join([*IN_PROCESS, *OVER_HTTP])}")
    parser.add_argument("--jobs", type=int, default=50_000, help="of the in-process workloads")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load over HTTP")
    asked = parser.parse_args()
    wanted = asked.names or [*IN_PROCESS, *OVER_HTTP]
    if unknown := set(wanted) - {*IN_PROCESS, *OVER_HTTP}:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    size = Size(jobs=asked.jobs, seconds=asked.seconds)
    with folder() as path, PostgresServer(path / "postgres") as server:
        print(
            f"{os.cpu_count()} cores, PostgreSQL {server.binaries.major}, durable,"
            f" {size.jobs:,} jobs; HTTP by {load.driver()}\n"
        )
        table = Table()
        for name, measure in IN_PROCESS.items():
            if name in wanted:
                measure(server, size, table)
        if set(OVER_HTTP) & set(wanted):
            with stack.running(path / "home", database_url=server.url) as running:
                idle = "memory" in wanted
                if idle:
                    time.sleep(2.0)  # what a start has allocated settles
                    memory(running)
                if "http" in wanted:
                    http(running, size, table, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
