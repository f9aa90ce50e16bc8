"""Who runs the workloads: ourselves, the bare loop, and the peers."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from localstack.home import ROOT

ADAPTERS = ROOT / "bench" / "adapters"
OURS, BARE = "mainstay", "bare loop"


class Store(StrEnum):
    POSTGRES = "PostgreSQL"
    REDIS = "Redis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """`unfinished`: a statement, or keys of Redis, that say how many jobs have not ended.

    `packages` are names with versions; `is_node` says whose. `tuning` is what `BENCH_TUNED` does.
    """

    name: str
    adapter: str
    store: Store
    unfinished: str | tuple[str, ...]
    packages: Sequence[str] = ()
    tuning: str | None = None

    @property
    def is_node(self) -> bool:
        return self.adapter.endswith(".mjs")

    def command(self, scratch: Path) -> list[str]:
        if self.is_node:
            return ["node", str(ADAPTERS / self.adapter)]
        python = python_of(scratch) if self.packages else sys.executable
        return [str(python), "-m", f"bench.adapters.{self.adapter}"]


def python_of(scratch: Path) -> Path:
    return scratch / "venv" / "bin" / "python"


def node_of(scratch: Path) -> Path:
    return scratch / "node"


MAINSTAY = Contestant(
    name=OURS,
    adapter="mainstay_queue",
    store=Store.POSTGRES,
    unfinished="select count(*) from queue_job",
)
BARE_LOOP = Contestant(
    name=BARE,
    adapter="bare_loop",
    store=Store.POSTGRES,
    unfinished="select count(*) from bare_job",
)
SAQ = "saq[hiredis,postgres,redis]==0.26.4"
PEERS = (
    Contestant(
        name="pgqueuer",
        adapter="pgqueuer_peer",
        store=Store.POSTGRES,
        unfinished="select count(*) from pgqueuer",
        packages=("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
        tuning="a pool, 500 jobs a claim, no cap on running jobs",
    ),
    Contestant(
        name="procrastinate",
        adapter="procrastinate_peer",
        store=Store.POSTGRES,
        unfinished="select count(*) from procrastinate_jobs where status in ('todo', 'doing')",
        packages=("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9", "uvloop==0.23.0"),
        tuning="jobs deleted when done",
    ),
    Contestant(
        name="saq, PostgreSQL",
        adapter="saq_peer",
        store=Store.POSTGRES,
        unfinished="select count(*) from saq_jobs where status in ('new', 'queued', 'active')",
        packages=(SAQ, "psycopg[binary,pool]==3.3.9", "uvloop==0.23.0"),
    ),
    Contestant(
        name="saq, Redis",
        adapter="saq_peer",
        store=Store.REDIS,
        unfinished=("saq:bench:incomplete",),
        packages=(SAQ, "uvloop==0.23.0"),
    ),
    Contestant(
        name="BullMQ",
        adapter="bullmq.mjs",
        store=Store.REDIS,
        unfinished=("bull:bench:wait", "bull:bench:active"),
        packages=("bullmq@6.7.0", "ioredis@6.0.0"),
        tuning="jobs deleted when done",
    ),
    Contestant(
        name="graphile-worker",
        adapter="graphile_worker.mjs",
        store=Store.POSTGRES,
        unfinished="select count(*) from graphile_worker._private_jobs",
        packages=("graphile-worker@0.17.3",),
        tuning="local queue of 500, endings in batches",
    ),
)
