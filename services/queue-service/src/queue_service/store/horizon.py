"""Who keeps the database from cleaning up."""

from chassis import postgres, sql
from queue_service.core.ports import Holder

SQL = sql.queries(__file__)


class PostgresHorizon:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def oldest(self) -> Holder | None:
        row = await self._database.fetchrow(SQL.oldest)
        return None if row is None else Holder(**row)
