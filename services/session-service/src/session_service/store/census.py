"""Counts over the table of sessions."""

from chassis import postgres, sql
from session_service.core import cleanup
from session_service.core.census import Census

SQL = sql.queries(__file__)


class PostgresCensus:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def take(self, key_id: str) -> Census:
        [row] = await self._database.fetch(SQL.take, key_id, cleanup.NAME)
        return Census(**row)
