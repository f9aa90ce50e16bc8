"""No contestant: the bare loop of `bench.bare`, to show what the machine allows."""

import asyncio
import json
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from bench import bare
from bench.adapters.adapter import KIND, STORE, Args, main, record

POLL_S = 1.0


class Bare:
    def __init__(self, dsn: str = STORE) -> None:
        self._dsn = dsn

    async def prepare(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        await connection.execute(bare.SCHEMA)
        await connection.close()

    async def open(self) -> None:
        self._connection = await asyncpg.connect(self._dsn)
        self._inserts = bare.Inserts(self._connection)

    async def close(self) -> None:
        await self._inserts.close()
        await self._connection.close()

    async def enqueue(self, args: Args) -> None:
        await self._inserts.enqueue(KIND, args)

    async def bulk(self, many: Sequence[Args]) -> None:
        await bare.insert(self._connection, [bare.row(KIND, args) for args in many])

    async def work(self) -> None:
        connection, listening = await asyncpg.connect(self._dsn), await asyncpg.connect(self._dsn)
        arrived = asyncio.Event()
        await listening.add_listener(bare.CHANNEL, lambda *_: arrived.set())
        held: list[UUID] = []
        while True:
            arrived.clear()
            rows = await connection.fetch(bare.SETTLE_AND_CLAIM, held, bare.BATCH)
            held = [row["id"] for row in rows]
            for row in rows:
                record(json.loads(row["args"])["t"])
            if not held:
                await _either(arrived, POLL_S)


async def _either(arrived: asyncio.Event, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await arrived.wait()
    except TimeoutError:
        return


if __name__ == "__main__":
    main(Bare())
