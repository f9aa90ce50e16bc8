"""Who may ask Shopify for tokens of a session now. Each method is one statement."""

from uuid import UUID

from chassis import postgres, sql

SQL = sql.queries(__file__)


class PostgresLeases:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def take(self, session_id: str, owner: UUID, *, life_s: float) -> bool:
        return bool(await self._database.fetchval(SQL.take, session_id, owner, life_s))

    async def renew(self, session_id: str, owner: UUID, *, life_s: float) -> bool:
        return bool(await self._database.fetchval(SQL.renew, session_id, owner, life_s))

    async def drop(self, session_id: str, owner: UUID) -> None:
        await self._database.execute(SQL.drop, session_id, owner)

    async def delete_ended(self) -> None:
        await self._database.execute(SQL.delete_ended)
