"""What every contestant does, whatever it is made of: `python -m bench.adapters.NAME VERB …`.

    prepare                       make an empty store ready
    single JOBS CALLERS SECONDS   W1: a call for each job, so many callers at once, one process
    bulk JOBS PIECE SECONDS       W2, and the filling of W3
    paced JOBS EVERY_MS           W4, after 200 jobs that do not count
    mixed SECONDS BACKLOG         W5: as W1, with at most so many jobs waiting
    work                          the worker, until it is told to stop

`single` and `bulk` end after SECONDS at the latest. Loads print `{"jobs", "seconds", "cpu_s"}`.
Handlers append 16 bytes to BENCH_RECORD for each job: when its enqueue call began and when it was
started, both CLOCK_MONOTONIC in ns, so that whoever drives only looks at a file, whatever the
language. Nothing but the standard library and uvloop: this runs in the environments of others.
"""

import asyncio
import json
import os
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import uvloop

STORE = os.environ.get("BENCH_STORE", "")
RECORD = os.environ.get("BENCH_RECORD", os.devnull)
# The settings that the documentation names for throughput, instead of the plain ones.
IS_TUNED = bool(os.environ.get("BENCH_TUNED"))
SHOPS = int(os.environ.get("BENCH_SHOPS", "200"))
KIND = "bench.noop"
CONCURRENCY = 20
CONNECTIONS = 20
WARM_UP = 200
IDLE_S = 1.0
LOOK_S = 0.001

Args = dict[str, Any]
Load = dict[str, float]


class Adapter(Protocol):
    """`bulk` is the contestant's own call for many jobs, or what its documents say instead."""

    async def prepare(self) -> None: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def enqueue(self, args: Args) -> None: ...
    async def bulk(self, many: Sequence[Args]) -> None: ...
    async def work(self) -> None: ...


_record = -1


def record(began_ns: int) -> None:
    """A job has started. Appends are atomic, so processes may share the file."""
    global _record
    if _record < 0:
        _record = os.open(RECORD, os.O_WRONLY | os.O_APPEND)
    os.write(_record, struct.pack("<qq", began_ns, time.monotonic_ns()))


def args_of(number: int) -> Args:
    return {
        "shop": f"shop-{number % SHOPS}.myshopify.com",
        "to": "+306900000000",
        "body": "x" * 120,
        "t": time.monotonic_ns(),
    }


class Stopwatch:
    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    def read(self, jobs: int) -> Load:
        cpu_s = time.process_time() - self._cpu
        return {"jobs": jobs, "seconds": self.seconds, "cpu_s": cpu_s}


async def single(adapter: Adapter, jobs: int, callers: int, seconds: float) -> Load:
    await _calls(adapter, callers, lambda sent: sent < WARM_UP)
    watch = Stopwatch()
    sent = await _calls(adapter, callers, lambda sent: sent < jobs and watch.seconds < seconds)
    return watch.read(sent)


async def _calls(adapter: Adapter, callers: int, goes_on: Callable[[int], bool]) -> int:
    """How many calls it took until `goes_on(calls so far)` said no."""
    sent = 0

    async def caller() -> None:
        nonlocal sent
        while goes_on(sent):
            sent += 1
            await adapter.enqueue(args_of(sent))

    await asyncio.gather(*(caller() for _ in range(callers)))
    return sent


async def bulk(adapter: Adapter, jobs: int, piece: int, seconds: float) -> Load:
    watch, sent = Stopwatch(), 0
    while sent < jobs and watch.seconds < seconds:
        many = [args_of(number) for number in range(sent, min(sent + piece, jobs))]
        await adapter.bulk(many)
        sent += len(many)
    return watch.read(sent)


async def paced(adapter: Adapter, jobs: int, every_ms: float) -> Load:
    """Of a caller that has called before, and a worker that has been idle for a while."""
    await _calls(adapter, 1, lambda sent: sent < WARM_UP)
    await asyncio.sleep(IDLE_S)
    watch = Stopwatch()
    for number in range(jobs):
        await asyncio.sleep(max(0.0, number * every_ms / 1000 - watch.seconds))
        await adapter.enqueue(args_of(number))
    return watch.read(jobs)


async def mixed(adapter: Adapter, seconds: float, backlog: int, callers: int = 50) -> Load:
    watch, sent = Stopwatch(), 0

    async def caller() -> None:
        nonlocal sent
        while watch.seconds < seconds:
            if sent - Path(RECORD).stat().st_size // 16 >= backlog:
                await asyncio.sleep(LOOK_S)
                continue
            sent += 1
            await adapter.enqueue(args_of(sent))

    await asyncio.gather(*(caller() for _ in range(callers)))
    return watch.read(sent)


LOADS: dict[str, Callable[..., Awaitable[Load]]] = {
    "single": single,
    "bulk": bulk,
    "paced": paced,
    "mixed": mixed,
}


async def _run(adapter: Adapter, verb: str, numbers: Sequence[str]) -> None:
    if verb == "prepare":
        await adapter.prepare()
    elif verb == "work":
        await adapter.work()
    else:
        await adapter.open()
        print(json.dumps(await LOADS[verb](adapter, *map(int, numbers))), flush=True)
        await adapter.close()


def main(adapter: Adapter) -> None:
    uvloop.run(_run(adapter, sys.argv[1], sys.argv[2:]))
