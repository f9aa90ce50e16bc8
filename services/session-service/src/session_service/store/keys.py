"""What is sealed of the table of sessions, and under which key."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

from chassis import postgres, sql
from session_service.core.sealing import Parts

SQL = sql.queries(__file__)


class PostgresKeys:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def under_others(self, key_id: str, *, after: str, limit: int) -> list[Parts]:
        return _parts(await self._database.fetch(SQL.under_others, key_id, after, limit))

    async def again(self, ids: Sequence[str], key_id: str) -> list[Parts]:
        return _parts(await self._database.fetch(SQL.again, list(ids), key_id))

    async def reseal(self, rows: Sequence[Parts]) -> int:
        if not rows:
            return 0
        columns = [list(column) for column in zip(*map(astuple, rows), strict=True)]
        return int(await self._database.fetchval(SQL.reseal, *columns))

    async def count_under_others(self, key_id: str, *, after: str) -> int:
        return int(await self._database.fetchval(SQL.count_under_others, key_id, after))


def _parts(rows: Sequence[Any]) -> list[Parts]:
    return [Parts(**row) for row in rows]
