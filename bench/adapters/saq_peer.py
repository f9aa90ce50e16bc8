"""On Redis or Postgres, as the URL says. It has no call for many jobs: they are sent at once."""

import asyncio
from collections.abc import Sequence
from typing import Any

from saq import Queue, Worker

from bench.adapters.adapter import CONCURRENCY, CONNECTIONS, KIND, STORE, Args, main, record

# More at once than this and its Redis pool runs out of connections.
AT_ONCE = 100


async def noop(_: Any, *, t: int, **__: Any) -> None:
    record(t)


class Peer:
    def __init__(self) -> None:
        pool = {} if STORE.startswith("redis:") else {"min_size": 4, "max_size": CONNECTIONS}
        self._queue = Queue.from_url(STORE, name="bench", **pool)

    async def prepare(self) -> None:
        await self._queue.connect()
        await self._queue.disconnect()

    async def open(self) -> None:
        await self._queue.connect()

    async def close(self) -> None:
        await self._queue.disconnect()

    async def enqueue(self, args: Args) -> None:
        await self._queue.enqueue(KIND, **args)

    async def bulk(self, many: Sequence[Args]) -> None:
        for start in range(0, len(many), AT_ONCE):
            await asyncio.gather(*(map(self.enqueue, many[start : start + AT_ONCE])))

    async def work(self) -> None:
        await self._queue.connect()
        await Worker(self._queue, functions=[(KIND, noop)], concurrency=CONCURRENCY).start()


if __name__ == "__main__":
    main(Peer())
