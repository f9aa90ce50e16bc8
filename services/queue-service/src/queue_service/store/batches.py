"""Batches as they are asked about and changed; what becomes of their jobs is in batch_chores."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from chassis import postgres, sql
from chassis.kernel import errors
from queue_service.core.batches import Batch, NewBatch
from queue_service.core.ports import Position

SQL = sql.queries(__file__)


class PostgresBatches:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def create(self, new: NewBatch) -> bool:
        return bool(
            await self._database.fetchval(
                SQL.create, new.id, new.name, new.shop, new.queue, new.kind, new.defaults,
                new.on_complete, new.fingerprint, new.hold,
            )
        )  # fmt: skip

    async def fingerprint(self, batch_id: UUID) -> tuple[str, str | None]:
        row = await self._database.fetchrow(SQL.fingerprint, batch_id)
        if row is None:
            raise errors.NotFound("there is no such batch")
        return row["fingerprint"], row["shop"]

    async def get(self, batch_id: UUID) -> Batch | None:
        rows = await self._database.fetch(SQL.read, batch_id, None, None, None, 1)
        return read(rows[0]) if rows else None

    async def newest(
        self, *, shop: str | None, after: Position | None, limit: int
    ) -> Sequence[Batch]:
        position: tuple[Any, Any] = (after.created_at, after.id) if after else (None, None)
        rows = await self._database.fetch(SQL.read, None, shop, *position, limit)
        return [read(row) for row in rows]

    async def close(self, batch_id: UUID) -> None:
        await self._database.execute(SQL.close, batch_id)

    async def hold(self, batch_id: UUID, *, paused: bool) -> None:
        await self._database.execute(SQL.hold, batch_id, paused)

    async def cancel(self, batch_id: UUID) -> None:
        await self._database.execute(SQL.cancel, batch_id)


async def read_within(connection: postgres.Connection, batch_id: UUID) -> Batch:
    """Inside the caller's transaction, of a batch that is there."""
    (row,) = await connection.fetch(SQL.read, batch_id, None, None, None, 1)
    return read(row)


def read(row: asyncpg.Record) -> Batch:
    given = dict(row)
    # The driver's own kind of UUID is none that a JSON writer knows.
    for name in ("id", "on_complete_id"):
        if given[name] is not None:
            given[name] = UUID(bytes=given[name].bytes)
    return Batch(**given)
