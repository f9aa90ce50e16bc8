"""What upstreams said of their limits, in Postgres: written only when it differs."""

from collections.abc import Sequence

from chassis import sql
from chassis.postgres import Database
from ratelimit_service.core.observing import Lesson

QUERIES = sql.queries(__file__)
CHANNEL = "ratelimit_learned"
LOCK = 0x6C6561726E  # "learn"


class PostgresLessons:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, *, policy: str, shop: str, rate: str | None, burst: int | None) -> Lesson:
        async with self._database.transaction() as connection:
            await connection.execute(QUERIES.lock, LOCK)
            row = await connection.fetchrow(QUERIES.keep, policy, shop, rate, burst)
            if row is None:
                row = await connection.fetchrow(QUERIES.find, policy, shop)
            else:
                await connection.execute(QUERIES.tell, CHANNEL)
        assert row is not None
        return Lesson(**row)

    async def since(self, version: int, *, limit: int) -> Sequence[Lesson]:
        rows = await self._database.fetch(QUERIES.since, version, limit)
        return [Lesson(**row) for row in rows]
