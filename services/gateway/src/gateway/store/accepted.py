"""What has been promised and may not have arrived: the spool, and the list of what the bus has."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from chassis import sql
from chassis.kernel import errors
from chassis.postgres import Connection, Database
from gateway.core.parcels import Claims, Parcel, Waiting
from gateway.core.ports import Road

SQL = sql.queries(__file__)
# What went by the bus is sent again when it has not been seen at its owner by then.
BUS_PATIENCE_S = 60.0


class Accepted:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, parcels: Sequence[Parcel], *, road: Road, is_whole: bool) -> list[Waiting]:
        async with self._database.transaction() as connection:
            rows = await connection.fetch(
                SQL.keep, str(road), BUS_PATIENCE_S if road is Road.BUS else 0.0, *_columns(parcels)
            )
            kept = {row["id"] for row in rows}
            left = [parcel for parcel in parcels if parcel.id not in kept]
            there = await _like(connection, left) if left else []
            claims = Claims(there)
            if any(claims.lacks(parcel) for parcel in left):
                # What stood in its place has left since: nothing is kept, so nothing is promised.
                raise errors.Unavailable("its place has just become free; repeat it")
            if is_whole:
                for parcel in left:
                    claims.like(parcel)
            return there

    async def find_like(self, parcels: Sequence[Parcel]) -> list[Waiting]:
        async with self._database.connection() as connection:
            return await _like(connection, parcels)

    async def find(self, job_id: UUID) -> Waiting | None:
        row = await self._database.fetchrow(SQL.find, job_id)
        return _waiting(row) if row is not None else None

    async def hurry(self, ids: Collection[UUID]) -> None:
        await self._database.execute(SQL.hurry, list(ids))

    async def claim(self, limit: int) -> list[Parcel]:
        rows = await self._database.fetch(SQL.claim, limit)
        return [_parcel(row) for row in sorted(rows, key=lambda row: row["accepted_at"])]

    async def done(self, ids: Collection[UUID]) -> None:
        await self._database.execute(SQL.done, list(ids))

    async def later(self, ids: Collection[UUID], *, seconds: float) -> None:
        await self._database.execute(SQL.later, list(ids), seconds)

    async def count(self) -> tuple[int, float]:
        row = await self._database.fetchrow(SQL.count)
        assert row is not None
        return row["count"], row["age_s"]


def _columns(parcels: Sequence[Parcel]) -> tuple[list[Any], ...]:
    return (
        [each.id for each in parcels],
        [each.shop for each in parcels],
        [each.queue for each in parcels],
        [each.scope for each in parcels],
        [each.key for each in parcels],
        [each.fingerprint for each in parcels],
        [each.raw.decode() for each in parcels],
    )


async def _like(connection: Connection, parcels: Sequence[Parcel]) -> list[Waiting]:
    keyed = [each for each in parcels if each.key is not None]
    rows = await connection.fetch(
        SQL.find_like,
        [each.id for each in parcels],
        [each.scope for each in keyed],
        [each.key for each in keyed],
    )
    return [_waiting(row) for row in rows]


def _waiting(row: asyncpg.Record) -> Waiting:
    return Waiting(
        id=row["id"],
        shop=row["shop"],
        scope=row["scope"],
        key=row["key"],
        fingerprint=row["fingerprint"],
    )


def _parcel(row: asyncpg.Record) -> Parcel:
    return Parcel(
        id=row["id"],
        shop=row["shop"],
        queue=row["queue"],
        scope=row["scope"],
        key=row["key"],
        fingerprint=row["fingerprint"],
        raw=row["command"].encode(),
    )
