"""Plain: one connection, 10 jobs a claim, 20 running. Tuned: a pool, 500 a claim, no cap."""

import json
from collections.abc import Sequence

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

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


async def started(job: Job) -> None:
    record(json.loads(job.payload or b"")["t"])


class Peer:
    async def prepare(self) -> None:
        connection = await asyncpg.connect(STORE)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    async def open(self) -> None:
        self._pool = await asyncpg.create_pool(STORE, min_size=CONNECTIONS, max_size=CONNECTIONS)
        self._queries = Queries(AsyncpgPoolDriver(self._pool))

    async def close(self) -> None:
        await self._pool.close()

    async def enqueue(self, args: Args) -> None:
        await self._queries.enqueue(KIND, json.dumps(args).encode())

    async def bulk(self, many: Sequence[Args]) -> None:
        payloads: list[bytes | None] = [json.dumps(args).encode() for args in many]
        await self._queries.enqueue([KIND] * len(many), payloads, [0] * len(many))

    async def work(self) -> None:
        if IS_TUNED:
            pool = await asyncpg.create_pool(STORE, min_size=4, max_size=CONNECTIONS)
            queuer = PgQueuer(AsyncpgPoolDriver(pool))
            queuer.entrypoint(KIND)(started)
            await queuer.qm.run(batch_size=500)
        else:
            queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(STORE)))
            queuer.entrypoint(KIND)(started)
            await queuer.qm.run(batch_size=10, max_concurrent_tasks=CONCURRENCY)


if __name__ == "__main__":
    main(Peer())
