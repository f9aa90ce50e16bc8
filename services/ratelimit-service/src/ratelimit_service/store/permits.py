"""Permits in Postgres alone: a place among so many must not be given to two."""

from uuid import UUID

from chassis import sql
from chassis.postgres import Database
from ratelimit_service.core.permits import Found, Held, Place, Renewed

QUERIES = sql.queries(__file__)


class PostgresPermits:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, identifier: UUID, place: Place, *, ttl_s: float) -> Held:
        async with self._database.transaction() as connection:
            await connection.execute(QUERIES.lock, place.key)
            row = await connection.fetchrow(
                QUERIES.take,
                identifier,
                place.key,
                place.policy,
                place.weight,
                ttl_s,
                place.limit,
            )
        assert row is not None
        return Held(**row)

    async def find(self, identifier: UUID) -> Found | None:
        row = await self._database.fetchrow(QUERIES.find, identifier)
        return None if row is None else Found(**row)

    async def renew(self, identifier: UUID, *, ttl_s: float) -> Renewed | None:
        row = await self._database.fetchrow(QUERIES.renew, identifier, ttl_s)
        return None if row is None else Renewed(**row)

    async def release(self, identifier: UUID) -> bool:
        return await self._database.fetchrow(QUERIES.release, identifier) is not None

    async def sweep(self) -> None:
        await self._database.execute(QUERIES.sweep)
