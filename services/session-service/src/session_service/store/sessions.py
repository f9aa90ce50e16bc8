"""The table of sessions. Each method is one statement."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from chassis import postgres, sql
from session_service.core.ports import Gone
from session_service.core.sealing import Sealed

SQL = sql.queries(__file__)


class PostgresSessions:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def find(self, ids: Sequence[str]) -> list[Sealed]:
        return _sealed(await self._database.fetch(SQL.find, list(ids)))

    async def of_shop(self, shop: str, *, after: str | None, limit: int) -> list[Sealed]:
        return _sealed(await self._database.fetch(SQL.of_shop, shop, after, limit))

    async def newest_of(self, shop: str, *, user_id: int | None) -> Sealed | None:
        rows = _sealed(await self._database.fetch(SQL.newest_of, shop, user_id))
        return rows[0] if rows else None

    async def put(
        self, row: Sealed, *, over: int | None, ends_ms: int | None, key_id: str, has_new_pair: bool
    ) -> int | None:
        values = (*_columns(row), ends_ms, key_id)
        if over is None:
            version = await self._database.fetchval(SQL.insert, *values)
        else:
            version = await self._database.fetchval(SQL.update, *values, over, has_new_pair)
        return None if version is None else int(version)

    async def retired(self, session_id: str) -> list[str]:
        return list(await self._database.fetchval(SQL.retired, session_id) or ())

    async def delete(self, ids: Sequence[str], *, shop: str | None) -> list[Gone]:
        return _gone(await self._database.fetch(SQL.delete, list(ids), shop))

    async def delete_shop(self, shop: str, *, granted_by: datetime | None) -> list[Gone]:
        return _gone(await self._database.fetch(SQL.delete_shop, shop, granted_by))

    async def delete_ended(self, *, grace_s: float, limit: int) -> list[Gone]:
        return _gone(await self._database.fetch(SQL.delete_ended, grace_s, limit))


def _columns(row: Sealed) -> tuple[Any, ...]:
    return (
        row.id,
        row.shop,
        row.is_online,
        row.user_id,
        row.scope,
        row.body,
        row.access_token,
        row.refresh_token,
        row.previous_refresh_token,
        row.expires_ms,
        row.refresh_expires_ms,
        row.status,
    )


def _sealed(rows: Sequence[Any]) -> list[Sealed]:
    return [Sealed(**row) for row in rows]


def _gone(rows: Sequence[Any]) -> list[Gone]:
    return [Gone(row["id"], row["version"]) for row in rows]
