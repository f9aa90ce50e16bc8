"""What claims, settles and enqueues cost as jobs pile up, and behind a snapshot that stays open.

Half a thousand jobs at a time, against ever more that wait; then, at the first size, the same after
as much churn with a snapshot pinned and without. What is told is the server's CPU, which holds on a
machine that others use too; rates do not.
"""

import statistics
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import asyncpg

from bench import ours
from bench.machine import PROC
from chassis import postgres
from chassis.kernel import ids
from localstack.servers import process
from localstack.servers.postgres import PostgresServer
from queue_service.core.attempts import Claimed, Settlement, Verb
from queue_service.core.jobs import NewJob
from queue_service.core.leasing import Claim
from queue_service.store.engine import SETTINGS, EngineStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.pulse import PostgresPulse

PIECE = 500
ROUNDS, WARM_UP = 30, 10
FILL_STEP = 250_000
STEPS = ("claim", "settle", "enqueue")
LANES = """
insert into lane (queue, shop, active)
select $1, 'shop' || n || '.example', true from generate_series(1, $2::integer) as n
"""
# Ids in the order of time, as ours are.
FILL = """
insert into queue_job (
    id, lane, queue, kind, shop, state, priority, max_attempts, run_at, created_at, fingerprint,
    args
)
select overlay(gen_random_uuid()::text placing lpad(to_hex($3::bigint + n), 8, '0') from 1 for 8)
        ::uuid,
    l.id, l.queue, 'bench', l.shop, 'ready', 5, 5, now(), now(), 'f',
    jsonb_build_object('text', repeat('x', 180))
from generate_series(1, $1::integer) as n join lane l on l.id = n % $2::integer + 1
"""
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Took:
    """Microseconds of the server's CPU a job, the median of ROUNDS, by step."""

    name: str
    steps: dict[str, float]


class Bed:
    """A database with jobs waiting in so many lanes, and a worker in it."""

    def __init__(self, server: PostgresServer, dsn: str, lanes: int) -> None:
        self._server, self._dsn, self._lanes = server, dsn, lanes
        self._closing = AsyncExitStack()
        self.worker: UUID = ids.new_id()

    async def __aenter__(self) -> "Bed":
        await ours.prepare(self._dsn, concurrency=20)
        pulse = PostgresPulse(self._dsn)
        await pulse.register(self.worker, "bench")
        await pulse.close()
        pinned = await postgres.open_database(
            self._dsn, size=2, application="bench", settings=SETTINGS
        )
        self._closing.push_async_callback(pinned.close)
        self._store = EngineStore(pinned)
        self._writer = EnqueueWriter(
            await self._closing.enter_async_context(ours.database(self._dsn))
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._closing.aclose()

    async def fill(self, jobs: int) -> None:
        connection = await asyncpg.connect(self._dsn)
        await connection.execute(LANES, ours.QUEUE, self._lanes)
        for start in range(0, jobs, FILL_STEP):
            many = min(FILL_STEP, jobs - start)
            await connection.execute(FILL, many, self._lanes, start, timeout=600)
        await connection.execute("vacuum analyze", timeout=1200)
        await connection.execute("checkpoint", timeout=600)
        await connection.close()

    async def round(self) -> dict[str, float]:
        took: dict[str, float] = {}
        claim = Claim(ours.QUEUE, self.worker, PIECE, PIECE)
        (_, jobs, dry), took["claim"] = await self._timed(self._store.settle_and_claim([], claim))
        await self._store.wake(dry)
        _, took["settle"] = await self._timed(self._store.settle([_completed(job) for job in jobs]))
        new = [self._job(n) for n in range(PIECE)]
        _, took["enqueue"] = await self._timed(self._writer.put_all(new))
        return took

    async def measure(self, name: str) -> Took:
        for _ in range(WARM_UP):
            await self.round()
        rounds = [await self.round() for _ in range(ROUNDS)]
        return Took(name, {step: statistics.median(one[step] for one in rounds) for step in STEPS})

    async def churn(self, seconds: float) -> int:
        """As fast as it goes for so long; how many jobs came and went."""
        until, rounds = time.monotonic() + seconds, 0
        while time.monotonic() < until:
            await self.round()
            rounds += 1
        return rounds * PIECE

    async def _timed(self, call: Awaitable[Answer]) -> tuple[Answer, float]:
        before = _cpu_us(self._server.pid)
        answer = await call
        return answer, (_cpu_us(self._server.pid) - before) / PIECE

    def _job(self, n: int) -> NewJob:
        return NewJob(
            id=ids.new_id(),
            kind="bench",
            queue=ours.QUEUE,
            shop=f"shop{n % self._lanes + 1}.example",
            args={"text": "x" * 180},
            fingerprint="f",
            is_secret=True,
        )


async def growth(
    server: PostgresServer, sizes: Sequence[int], *, lanes: int, pinned_s: float
) -> None:
    print(f"{PIECE} jobs at a time, {lanes} lanes; server's CPU a job, µs", flush=True)
    first: Took | None = None
    for size in sizes:
        async with Bed(server, await _fresh(server), lanes) as bed:
            began = time.monotonic()
            await bed.fill(size)
            filled_s = time.monotonic() - began
            took = await bed.measure(f"{size:,} waiting")
            first = first or took
            _tell(took, first, f"filled in {filled_s:.0f} s")
    for count in (lanes, 1):
        await _pinned(server, sizes[0], lanes=count, seconds=pinned_s)


async def _pinned(server: PostgresServer, size: int, *, lanes: int, seconds: float) -> None:
    """With a snapshot open for so long, and after the same churn without one."""
    free: Took | None = None
    for is_pinned in (False, True):
        dsn = await _fresh(server)
        async with Bed(server, dsn, lanes) as bed:
            await bed.fill(size)
            holder = await asyncpg.connect(dsn)
            if is_pinned:
                await holder.execute("begin isolation level repeatable read; select 1 from lane")
            jobs = await bed.churn(seconds)
            took = await bed.measure(
                f"{lanes} lane{'s'[: lanes > 1]}, {'pinned' if is_pinned else 'free'}"
            )
            await holder.close()
            free = free or took
            _tell(took, free, f"after {seconds:.0f} s, {jobs:,} jobs")


def _tell(took: Took, beside: Took, note: str) -> None:
    told = "  ".join(
        f"{step} {took.steps[step]:5.1f} ({took.steps[step] / beside.steps[step]:.2f})"
        for step in STEPS
    )
    print(f"{took.name:24}{told}   {note}", flush=True)


def _cpu_us(pid: int) -> float:
    """Of a process and its children, finer than its ticks."""
    spent = 0
    for one in process.tree(pid):
        with suppress(OSError):
            spent += int((PROC / str(one) / "schedstat").read_text().split()[0])
    return spent / 1000


def _completed(job: Claimed) -> Settlement:
    return Settlement(id=job.id, lease_no=job.lease_no, verb=Verb.COMPLETED, result={})


async def _fresh(server: PostgresServer) -> str:
    connection = await asyncpg.connect(server.url)
    await connection.execute("drop database if exists growth with (force)")
    await connection.execute("create database growth")
    await connection.close()
    return server.database_url("growth")
