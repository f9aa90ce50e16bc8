"""Authorizations under way. Each method is one statement."""

from uuid import UUID

from chassis import postgres, sql
from session_service.core.ports import Authorization

SQL = sql.queries(__file__)


class PostgresStates:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def keep(
        self, state: bytes, browser: bytes, begun: Authorization, *, life_s: float
    ) -> None:
        values = (begun.shop, begun.is_online, begun.return_to, begun.host)
        await self._database.execute(SQL.keep, state, browser, *values, life_s)

    async def claim(
        self, state: bytes, browser: bytes, *, shop: str, owner: UUID, hold_s: float
    ) -> tuple[Authorization, bool] | None:
        row = await self._database.fetchrow(SQL.claim, state, browser, shop, owner, hold_s)
        if row is None:
            return None
        begun = Authorization(
            shop=shop, is_online=row["is_online"], return_to=row["return_to"], host=row["host"]
        )
        return begun, row["is_free"]

    async def release(self, state: bytes, *, owner: UUID) -> None:
        await self._database.execute(SQL.release, state, owner)

    async def finish(self, state: bytes, *, owner: UUID) -> None:
        await self._database.execute(SQL.finish, state, owner)

    async def delete_ended(self, *, limit: int) -> int:
        tag = await self._database.execute(SQL.delete_ended, limit)
        return int(tag.rpartition(" ")[2])
