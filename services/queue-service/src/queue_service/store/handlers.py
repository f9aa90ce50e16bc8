"""Push handlers; their secrets are sealed before they come here."""

import asyncpg

from chassis import postgres, sql
from queue_service.core.handlers import NewHandler, PushHandler

SQL = sql.queries(__file__)


class PostgresHandlers:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def all(self) -> list[PushHandler]:
        return [_handler(row) for row in await self._database.fetch(SQL.all)]

    async def get(self, kind: str) -> PushHandler | None:
        row = await self._database.fetchrow(SQL.get, kind)
        return _handler(row) if row is not None else None

    async def create(self, new: NewHandler, *, sealed: str) -> bool:
        return bool(
            await self._database.fetchval(
                SQL.create, new.kind, new.url, sealed, new.timeout_s, new.max_in_flight
            )
        )

    async def change(self, new: NewHandler, *, sealed: str | None) -> bool:
        return bool(
            await self._database.fetchval(
                SQL.change, new.kind, new.url, sealed, new.timeout_s, new.max_in_flight
            )
        )

    async def disable(self, handler: PushHandler) -> None:
        await self._database.fetchval(SQL.disable, handler.kind, handler.updated_at)

    async def delete(self, kind: str) -> bool:
        return bool(await self._database.fetchval(SQL.delete, kind))


def _handler(row: asyncpg.Record) -> PushHandler:
    return PushHandler(**row)
