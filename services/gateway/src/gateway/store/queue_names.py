"""The names of queue-service's queues, for the time when it does not answer."""

from collections.abc import Collection

from chassis import sql
from chassis.postgres import Database

SQL = sql.queries(__file__)


class KnownQueues:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def replace(self, names: Collection[str]) -> None:
        await self._database.execute(SQL.replace, sorted(names))

    async def read(self) -> list[str]:
        return [row["name"] for row in await self._database.fetch(SQL.read)]
