"""What a running attempt asks of the tables: the Lookups of `core.context`."""

from typing import Any
from uuid import UUID

from chassis import postgres, sql

SQL = sql.queries(__file__)


class PostgresLookups:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def checkpoint(self, job_id: UUID) -> Any:
        return await self._database.fetchval(SQL.checkpoint, job_id)

    async def waiting(self, queue: str, shop: str, *, limit: int) -> int:
        return int(await self._database.fetchval(SQL.waiting, queue, shop, limit))
