"""Ours: the writer that the api wires, and a worker process as it is deployed."""

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench import ours
from bench.adapters.adapter import CONCURRENCY, KIND, STORE, Args, main
from chassis import crypto
from chassis.kernel import ids
from queue_service.core.jobs import NewJob
from queue_service.store.enqueue import EnqueueWriter

SCRATCH = Path(os.environ.get("BENCH_SCRATCH", "."))
NOWHERE = "http://127.0.0.1:9"
# What pip would write for a package with handlers.
DISTRIBUTION = {
    "METADATA": "Metadata-Version: 2.1\nName: mainstay-bench\nVersion: 0\n",
    "entry_points.txt": "[mainstay.handlers]\nbench = bench.adapters.mainstay_handlers:HANDLERS\n",
}


def new_job(args: Args) -> NewJob:
    return NewJob(
        id=ids.new_id(),
        kind=KIND,
        queue=ours.QUEUE,
        shop=args["shop"],
        args=args,
        fingerprint="f",
        is_secret=True,
    )


class Mainstay:
    def __init__(self, dsn: str = STORE) -> None:
        self._dsn = dsn

    async def prepare(self) -> None:
        await ours.prepare(self._dsn, concurrency=CONCURRENCY)

    async def open(self) -> None:
        self._closing = AsyncExitStack()
        database = await self._closing.enter_async_context(ours.database(self._dsn))
        self._writer = EnqueueWriter(database)
        self._task = asyncio.create_task(self._writer.run())

    async def close(self) -> None:
        self._task.cancel()
        await self._closing.aclose()

    async def enqueue(self, args: Args) -> None:
        await self._writer.put([new_job(args)])

    async def bulk(self, many: Sequence[Args]) -> None:
        await self._writer.put([new_job(args) for args in many])

    async def work(self) -> None:
        """Becomes `python -m queue_service worker`, with our handler beside the others."""
        distribution = SCRATCH / "mainstay_bench-0.dist-info"
        distribution.mkdir(exist_ok=True)
        for name, text in DISTRIBUTION.items():
            (distribution / name).write_text(text)
        private, _ = crypto.new_service_key()
        environ = {
            "DATABASE_URL": self._dsn,
            "SERVICE_KEY": private,
            "SERVICE_KEYS_DIR": str(SCRATCH),
            "RATELIMIT_SERVICE_URL": NOWHERE,
            "QUEUE_CONCURRENCY": f"{ours.QUEUE}={CONCURRENCY}",
            "LOG_LEVEL": "WARNING",
            "PYTHONPATH": f"{SCRATCH}{os.pathsep}{os.environ['PYTHONPATH']}",
        }
        worker = os.environ.get("BENCH_WORKER", "-m queue_service worker").split()
        os.execve(sys.executable, [sys.executable, *worker], os.environ | environ)


if __name__ == "__main__":
    main(Mainstay())
