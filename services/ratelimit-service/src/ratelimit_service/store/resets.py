"""Resets, in the audit of all that operators do."""

from chassis import sql
from chassis.postgres import Database

QUERIES = sql.queries(__file__)


class PostgresResets:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, *, author: str, key: str, reason: str | None) -> None:
        await self._database.execute(QUERIES.record, author, key, {"reason": reason})
