"""`python -m bench [part…]`: we, beside others.

A figure alone says more about the machine than about us; the ratio is what to compare. Ours run on
PostgreSQL alone, durable (fsync on), without Redis and RabbitMQ.

    queue     workloads W1 to W5, beside the bare loop; with --peers beside other queues too
    engine    what a job costs in this process, without a worker, beside the bare statements
    http      what it costs to accept a job over HTTP, beside the least that a POST costs
    memory    of the idle processes
    growth    claim, settle and enqueue while jobs pile up, and behind a snapshot that stays open
              (only when asked for)
    limits    what a decision of the limiter costs, and what happens when Redis is killed
              (only when asked for)
    faults    what limits give out while their stores die, beside the ideal and the bound; two to
              three minutes (only when asked for)
    dispatch  from enqueue to start, told by notification, by Redis behind a pooler, by nobody
              (only when asked for)
    tokens    what reading the token of a shop costs, from memory and from PostgreSQL, beside the
              least that a GET costs (only when asked for)
    sessions  what becomes of a shop's tokens on bad days, here and in Shopify's own packages, which
              npm installs (only when asked for)
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import (
    faults,
    limits,
    load,
    machine,
    over_http,
    peers,
    queues,
    report,
    sessions,
    stack,
    tokens,
)
from bench.contestants import BARE_LOOP, MAINSTAY, Contestant, Store
from bench.dispatch import dispatch
from bench.engine import STATEMENTS, engine
from bench.growth import growth
from bench.workloads import Ring, Size
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer

DISPATCHED = 200
PARTS = (
    "queue",
    "engine",
    "http",
    "memory",
    "growth",
    "dispatch",
    "limits",
    "faults",
    "sessions",
    "tokens",
)
BY_DEFAULT = PARTS[:4]
OVER_HTTP = {"http", "memory"}
SCALED = ("single", "bulk", "drain", "paced", "mixed_s", "seconds")
SHARED_MEMORY = Path("/dev/shm")
# Where other peoples' packages are kept from one run to the next.
PEERS_HOME = Path(f"/var/tmp/mainstay-{os.getuid()}/bench-peers")


@contextmanager
def folder() -> Iterator[Path]:
    """Where the account that runs Postgres for root can go as well."""
    with tempfile.TemporaryDirectory(prefix="mainstay-bench-", dir="/var/tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@contextmanager
def record() -> Iterator[Path]:
    where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.NamedTemporaryFile(prefix="mainstay-bench-", dir=where) as file:
        yield Path(file.name)


def scaled(by: float) -> Size:
    whole = Size()
    return Size(**{name: max(1, round(getattr(whole, name) * by)) for name in SCALED})


def queue(server: PostgresServer, path: Path, asked: argparse.Namespace) -> None:
    who: list[Contestant] = [MAINSTAY, BARE_LOOP]
    scratch = path
    if asked.peers is not None:
        others, scratch = peers.wanted(asked.peers), asked.scratch
        scratch.mkdir(parents=True, exist_ok=True)
        peers.install(others, scratch)
        who += others
    with ExitStack() as closing:
        redis = None
        if any(each.store is Store.REDIS for each in who):
            redis = closing.enter_context(RedisServer(path / "redis"))
        ring = Ring(
            postgres=server,
            redis=redis,
            scratch=scratch,
            record=closing.enter_context(record()),
            shops=asked.shops,
            size=scaled(asked.scale),
        )
        rows = queues.measure(ring, who, asked.only, runs=asked.runs)
    about = [*machine.about(), f"PostgreSQL {server.binaries.major}, {asked.shops} shops"]
    print(f"\n{report.markdown(rows, about)}\n", flush=True)


def over_http_parts(server: PostgresServer, path: Path, asked: argparse.Namespace) -> None:
    with stack.running(path / "home", database_url=server.url) as running:
        if "memory" in asked.parts:
            time.sleep(2.0)  # what a start has allocated settles
            over_http.memory(running)
        if "http" in asked.parts:
            over_http.http(running, seconds=asked.seconds, scratch=path)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--peers", nargs="*", metavar="NAME", help="beside these, or all, queues")
    parser.add_argument("--only", nargs="+", default=[], metavar="W1", type=str.lower)
    parser.add_argument("--runs", type=int, default=1, help="of each workload; tells the median")
    parser.add_argument("--scale", type=float, default=1.0, help="of jobs and seconds")
    parser.add_argument("--shops", type=int, default=200, help="that the jobs belong to")
    parser.add_argument("--jobs", type=int, default=50_000, help="of the engine alone")
    parser.add_argument("--statements", type=int, default=0, help="tell the dearest, of engine")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load over HTTP")
    parser.add_argument("--waiting", nargs="+", type=int, default=[10_000, 1_000_000], help="jobs")
    parser.add_argument("--pinned", type=float, default=60.0, help="seconds of an open snapshot")
    parser.add_argument("--scratch", type=Path, default=PEERS_HOME, help="for peers' packages")
    asked = parser.parse_args()
    asked.parts = asked.parts or (["queue"] if asked.peers is not None else list(BY_DEFAULT))
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    return asked


def main() -> int:
    asked = arguments()
    settings = STATEMENTS if asked.statements else None
    with folder() as path, PostgresServer(path / "postgres", settings=settings) as server:
        print(
            f"{os.cpu_count()} cores, PostgreSQL {server.binaries.major}, durable;"
            f" HTTP by {load.driver()}\n"
        )
        if "queue" in asked.parts:
            queue(server, path, asked)
        if "engine" in asked.parts:
            asyncio.run(engine(server, asked.jobs, statements=asked.statements))
        if "growth" in asked.parts:
            asyncio.run(growth(server, asked.waiting, lanes=asked.shops, pinned_s=asked.pinned))
        if "dispatch" in asked.parts:
            asyncio.run(dispatch(server, path, int(asked.scale * DISPATCHED)))
        if "limits" in asked.parts:
            limits.limits(server, path, seconds=asked.seconds)
        if "tokens" in asked.parts:
            tokens.tokens(server, path, seconds=asked.seconds)
        if "sessions" in asked.parts:
            sessions.sessions(server, path, asked.scratch, scale=asked.scale)
        if "faults" in asked.parts and faults.faults(path):
            return 1
        if OVER_HTTP & set(asked.parts):
            over_http_parts(server, path, asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
