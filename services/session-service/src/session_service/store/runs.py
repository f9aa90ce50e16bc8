"""Periodic work that all replicas share: the period is claimed here, by the database's time."""

from chassis import postgres, sql

SQL = sql.queries(__file__)


class PostgresRuns:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def claim(self, name: str, *, period_s: float, stuck_s: float) -> bool:
        return bool(await self._database.fetchval(SQL.claim, name, period_s, stuck_s))

    async def finish(self, name: str, *, handled: int) -> None:
        await self._database.execute(SQL.finish, name, handled)
