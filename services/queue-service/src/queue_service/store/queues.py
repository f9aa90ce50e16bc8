"""Queues and their lanes."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from chassis import postgres, sql
from queue_service.core.ports import Depth, Queue

SQL = sql.queries(__file__)

COLUMNS = (
    "served_by", "concurrency", "global_limit", "per_shop_limit", "max_attempts", "timeout_s",
    "max_age_s", "retry", "weights", "paused", "sealed",
    "drop_on_finish", "retention",
)  # fmt: skip
CAPPING = frozenset({"per_shop_limit", "global_limit"})
ABOUT_LANES = frozenset({"per_shop_limit", "weights"})
DELETE_LOCK_TIMEOUT = "set local lock_timeout = '1s'"


class PostgresQueues:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def has(self, name: str) -> bool:
        return bool(await self._database.fetchval(SQL.has, name))

    async def get(self, name: str) -> Queue | None:
        rows = await self._database.fetch(SQL.page, name, "", 1)
        return _queue(rows[0]) if rows else None

    async def page(self, *, after: str, limit: int) -> list[Queue]:
        return [_queue(row) for row in await self._database.fetch(SQL.page, None, after, limit)]

    async def create(self, queue: Queue) -> bool:
        values = [getattr(queue, column) for column in COLUMNS]
        return bool(await self._database.fetchval(SQL.create, queue.name, *values))

    async def change(self, name: str, change: Mapping[str, Any]) -> bool:
        async with self._database.transaction() as connection:
            if change.keys() & CAPPING:
                await connection.fetch(SQL.lock_running, name)
            row = await connection.fetchrow(SQL.lock, name)
            if row is None:
                return False
            values = {**row, **change}
            await connection.execute(SQL.change, name, *(values[column] for column in COLUMNS))
            await self._follow(connection, name, change)
            await connection.execute(SQL.notify, name)
        return True

    async def _follow(
        self, connection: postgres.Connection, name: str, change: Mapping[str, Any]
    ) -> None:
        """No claim is under way once the lanes are locked, so what is counted then is exact."""
        if not change.keys() & (CAPPING | ABOUT_LANES):
            return
        await connection.fetch(SQL.lock_lanes, name)
        if change.get("per_shop_limit") is not None:
            await connection.execute(SQL.count_jobs, name)
        if change.keys() & ABOUT_LANES:
            await connection.execute(SQL.change_lanes, name)
        if "global_limit" in change:
            await connection.execute(SQL.recount, name)

    async def delete(self, name: str) -> bool | None:
        if not await self.has(name):
            return None
        if not await self._database.fetchval(SQL.is_empty, name):
            return False
        async with self._database.transaction() as connection:
            await connection.execute(DELETE_LOCK_TIMEOUT)
            await connection.execute(SQL.shut_out_new_jobs)
            if not await connection.fetchval(SQL.is_empty, name):
                return False
            await connection.execute(SQL.delete, name)
            await connection.execute(SQL.notify, name)
        return True

    async def depths(self) -> Sequence[Depth]:
        return [Depth(**row) for row in await self._database.fetch(SQL.depths)]


def _queue(row: asyncpg.Record) -> Queue:
    return Queue(**row)
