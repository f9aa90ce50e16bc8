"""W1 to W5, the same for every contestant: its processes are driven, its store and its record read.

| | what | figure |
|---|---|---|
| W1 | a call for each job, 50 callers at once in one process | jobs/s, each after its commit |
| W2 | the call for many jobs, 1,000 at a time | jobs/s |
| W3 | a backlog, one worker process; from the first start until nothing is unfinished | jobs/s |
| W3, two | the same with two worker processes | jobs/s |
| W4 | idle worker, a job every 20 ms; from before the call to the handler's start | ms |
| W5 | W1 against a running worker, at most 2,000 jobs waiting | jobs/s started |

Every run begins with an empty store. Everything is bounded in time: a load that is not done in time
counts for what it did, a drain that is cut for what was started (`is_cut`).
"""

import asyncio
import os
import signal
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import orjson
import redis.asyncio

from bench import machine
from bench.adapters.adapter import WARM_UP
from bench.contestants import Contestant, Store, node_of
from bench.load import LoadError
from localstack.home import ROOT
from localstack.servers import process
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer

CALLERS, PIECE = 50, 1000
BACKLOG = 2000
EVERY_MS = 20
RECORD_BYTES = 16
LOOK_S = 0.005
START_WITHIN_S = 30.0
FINISH_WITHIN_S = 15.0
SLACK_S = 60.0
SETTLED_S = 1.0
DATABASE = "bench"
STOPPING = ((signal.SIGTERM, 4.0),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`seconds` bound each load and each drain, `mixed_s` is how long W5 takes."""

    single: int = 20_000
    bulk: int = 50_000
    drain: int = 50_000
    paced: int = 300
    mixed_s: int = 15
    seconds: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """`cores` of the client in W1 and W2, of the workers in W3. `foreign`: those of others.
    `memory_mb`: the most that a worker of W3 had in memory."""

    per_s: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    cores: float = 0.0
    memory_mb: float = 0.0
    is_cut: bool = False
    foreign: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Where contestants meet: the servers, the record, and a folder for what they leave behind."""

    postgres: PostgresServer
    redis: RedisServer | None
    scratch: Path
    record: Path
    shops: int
    size: Size = field(default_factory=Size)

    def url(self, store: Store) -> str:
        if store is Store.POSTGRES:
            return self.postgres.database_url(DATABASE)
        assert self.redis is not None
        return self.redis.url

    @property
    def log(self) -> Path:
        return self.scratch / "contestants.log"


class Round:
    """One contestant, one way of running its worker."""

    def __init__(self, ring: Ring, who: Contestant, *, is_tuned: bool = False) -> None:
        self._ring, self._who = ring, who
        self._argv = who.command(ring.scratch)
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._environ = os.environ | {
            "PYTHONPATH": path,
            "BENCH_STORE": ring.url(who.store),
            "BENCH_RECORD": str(ring.record),
            "BENCH_SCRATCH": str(ring.scratch),
            "BENCH_NODE": str(node_of(ring.scratch)),
            "BENCH_SHOPS": str(ring.shops),
            "BENCH_TUNED": "1" if is_tuned else "",
        }

    async def single(self) -> Figure:
        await self._reset()
        size = self._ring.size
        return _rate(await self._load("single", size.single, CALLERS, size.seconds))

    async def bulk(self) -> Figure:
        await self._reset()
        size = self._ring.size
        return _rate(await self._load("bulk", size.bulk, PIECE, size.seconds))

    async def drain_by_two(self) -> Figure:
        return await self.drain(workers=2)

    async def drain(self, *, workers: int = 1) -> Figure:
        await self._reset()
        size = self._ring.size
        jobs = int((await self._load("bulk", size.drain, PIECE, size.seconds))["jobs"])
        await self._settle_down()
        async with AsyncExitStack() as running:
            pids = [await running.enter_async_context(self._worker()) for _ in range(workers)]
            await self._until_started(1, START_WITHIN_S)
            began, cpu_s = self._starts()[0], sum(map(machine.cpu_s, pids))
            is_cut = not await self._until_started(jobs, size.seconds)
            started, ended = self._started(), time.monotonic()
            cores = (sum(map(machine.cpu_s, pids)) - cpu_s) / (ended - began)
            if not is_cut:
                await self._until_finished()
                ended = time.monotonic()
            memory_mb = max(map(machine.peak_mb, pids))
        per_s = started / (ended - began)
        return Figure(per_s=per_s, cores=cores, memory_mb=memory_mb, is_cut=is_cut)

    async def latency(self) -> Figure:
        await self._reset()
        async with self._worker():
            await self._warm()
            jobs = self._ring.size.paced
            await self._load("paced", jobs, EVERY_MS)
            if not await self._until_started(WARM_UP + jobs, FINISH_WITHIN_S):
                raise LoadError(f"{self._started()} of {WARM_UP + jobs} jobs were started")
            took = sorted((start - call) * 1000 for call, start in sorted(self._records())[-jobs:])
        return Figure(p50_ms=took[len(took) // 2], p99_ms=took[int(len(took) * 0.99)])

    async def mixed(self) -> Figure:
        await self._reset()
        async with self._worker():
            await self._warm()
            seconds = self._ring.size.mixed_s
            await self._load("mixed", seconds, BACKLOG)
            starts = self._starts()
        return Figure(per_s=sum(each < starts[0] + seconds for each in starts) / seconds)

    async def _reset(self) -> None:
        if self._who.store is Store.POSTGRES:
            await self._sql("postgres", f'drop database if exists "{DATABASE}" with (force)')
            await self._sql("postgres", f'create database "{DATABASE}"')
        else:
            async with redis.asyncio.from_url(self._environ["BENCH_STORE"]) as client:
                await client.flushall()
        self._clear()
        await self._run("prepare")

    async def _settle_down(self) -> None:
        """What a filled table would do by itself a minute later."""
        if self._who.store is Store.POSTGRES:
            await self._sql(DATABASE, "vacuum analyze")
            await self._sql("postgres", "checkpoint")
        self._clear()

    async def _sql(self, database: str, statement: str) -> None:
        connection = await asyncpg.connect(self._ring.postgres.database_url(database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _load(self, verb: str, *numbers: int) -> dict[str, float]:
        told: dict[str, float] = orjson.loads((await self._run(verb, *numbers)).splitlines()[-1])
        return told

    async def _run(self, verb: str, *numbers: int) -> bytes:
        size = self._ring.size
        with self._ring.log.open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                *self._argv, verb, *map(str, numbers),
                env=self._environ, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        try:
            async with asyncio.timeout(size.seconds + size.mixed_s + SLACK_S):
                told, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            raise LoadError(f"{verb}: {self._last_words()}")
        return told

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[int]:
        argv = [*self._argv, "work"]
        worker = process.spawn(argv, log=self._ring.log, env=self._environ)
        try:
            yield worker.pid
            if worker.poll() is not None:
                raise LoadError(f"work: {self._last_words()}")
        finally:
            await asyncio.to_thread(process.end, worker.pid, *STOPPING)
            worker.wait()

    async def _warm(self) -> None:
        """Plans are made, connections open; then it is idle again."""
        await self._load("paced", 5, EVERY_MS)
        if not await self._until_started(WARM_UP + 5, START_WITHIN_S):
            raise LoadError(f"runs nothing: {self._last_words()}")
        await asyncio.sleep(SETTLED_S)
        self._clear()

    async def _until_started(self, jobs: int, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while self._started() < jobs:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _until_finished(self) -> None:
        deadline = time.monotonic() + FINISH_WITHIN_S
        async with _unfinished(self._who, self._environ["BENCH_STORE"]) as count:
            while left := await count():
                if time.monotonic() > deadline:
                    raise LoadError(f"{left} jobs do not end")
                await asyncio.sleep(LOOK_S)

    def _last_words(self) -> str:
        """The error it died of, or whatever it said last."""
        lines = process.tail(self._ring.log, lines=40).splitlines() or ["it said nothing"]
        return next((line for line in reversed(lines) if "Error" in line), lines[-1])

    def _clear(self) -> None:
        self._ring.record.write_bytes(b"")
        self._ring.record.chmod(0o666)

    def _started(self) -> int:
        return self._ring.record.stat().st_size // RECORD_BYTES

    def _records(self) -> list[tuple[float, float]]:
        """(call began, handler started) in seconds."""
        whole = self._ring.record.read_bytes()[: self._started() * RECORD_BYTES]
        return [(call / 1e9, start / 1e9) for call, start in struct.iter_unpack("<qq", whole)]

    def _starts(self) -> list[float]:
        starts = sorted(start for _, start in self._records())
        if not starts:
            raise LoadError(f"runs nothing: {self._last_words()}")
        return starts


@asynccontextmanager
async def _unfinished(who: Contestant, url: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    if isinstance(who.unfinished, str):
        statement = who.unfinished
        connection = await asyncpg.connect(url)
        try:
            yield lambda: connection.fetchval(statement)
        finally:
            await connection.close()
        return
    keys = who.unfinished
    async with redis.asyncio.from_url(url, decode_responses=True) as client:

        async def count() -> int:
            kinds = [await client.type(key) for key in keys]
            read = {"list": client.llen, "zset": client.zcard}
            return sum(
                [
                    await read[kind](key)
                    for key, kind in zip(keys, kinds, strict=True)
                    if kind in read
                ]
            )

        yield count


def _rate(told: dict[str, float]) -> Figure:
    return Figure(per_s=told["jobs"] / told["seconds"], cores=told["cpu_s"] / told["seconds"])
