"""Forgetting a shop in Postgres."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from chassis import postgres, sql
from ratelimit_service.core.configuration import Kind, Place
from ratelimit_service.store import configuration
from ratelimit_service.store.configuration import PostgresDesk

SQL = sql.queries(__file__)


class PostgresRedactions:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    @asynccontextmanager
    async def forgetting(self) -> AsyncIterator["PostgresFiles"]:
        async with self._database.transaction() as connection:
            await connection.execute(configuration.QUERIES.lock, configuration.LOCK)
            yield PostgresFiles(connection)


class PostgresFiles(PostgresDesk):
    def __init__(self, connection: postgres.Connection) -> None:
        super().__init__(connection)
        self._files = connection

    async def begin(self, event_id: UUID) -> bool:
        return bool(await self._files.fetchval(SQL.begin, event_id))

    async def places_of(self, shop: str, *, before: datetime) -> Sequence[Place]:
        rows = await self._files.fetch(SQL.places_of, shop, before)
        return [Place(Kind(row["kind"]), row["scope"], row["name"]) for row in rows]

    async def forget(self, shop: str, *, before: datetime) -> None:
        for statement in (
            SQL.forget_usage,
            SQL.forget_learned,
            SQL.forget_audit,
            SQL.forget_listed,
        ):
            await self._files.execute(statement, shop, before)
