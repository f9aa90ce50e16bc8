"""Plain: 20 jobs at a time. Tuned: jobs are deleted when they are done."""

from collections.abc import Sequence
from typing import Any

import procrastinate

from bench.adapters.adapter import (
    CONCURRENCY,
    CONNECTIONS,
    IS_TUNED,
    KIND,
    STORE,
    Args,
    main,
    record,
)


async def noop(t: int, **_: Any) -> None:
    record(t)


class Peer:
    def __init__(self) -> None:
        connector = procrastinate.PsycopgConnector(conninfo=STORE, max_size=CONNECTIONS)
        self._app = procrastinate.App(connector=connector)
        self._task = self._app.task(name=KIND)(noop)

    async def prepare(self) -> None:
        async with self._app.open_async():
            await self._app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        await self._app.open_async()

    async def close(self) -> None:
        await self._app.close_async()

    async def enqueue(self, args: Args) -> None:
        await self._task.defer_async(**args)

    async def bulk(self, many: Sequence[Args]) -> None:
        await self._task.batch_defer_async(*many)

    async def work(self) -> None:
        tuned: dict[str, Any] = {"delete_jobs": "always"} if IS_TUNED else {}
        async with self._app.open_async():
            await self._app.run_worker_async(concurrency=CONCURRENCY, **tuned)


if __name__ == "__main__":
    main(Peer())
