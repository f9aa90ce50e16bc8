"""What operators set, in Postgres."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import asyncpg
import pydantic

from chassis import postgres, sql
from chassis.postgres import Database
from contracts.ratelimits import OverridePut, PolicyPut
from ratelimit_service.core.configuration import (
    MODELS,
    Kind,
    Overriding,
    Place,
    Said,
    Setting,
    document,
)

QUERIES = sql.queries(__file__)
CHANNEL = "ratelimit_policies"
LOCK = 0x72756C65  # "rule"


class PostgresConfiguration:
    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def writing(self) -> AsyncIterator["PostgresDesk"]:
        """The lock is taken by a statement of its own: those after it see what is committed."""
        async with self._database.transaction() as connection:
            await connection.execute(QUERIES.lock, LOCK)
            yield PostgresDesk(connection)

    async def find(self, place: Place) -> Setting | None:
        async with self._database.connection() as connection:
            return await PostgresDesk(connection).find(place)

    async def page(
        self, kind: Kind, *, scope: str | None, after: tuple[str, str], limit: int
    ) -> Sequence[Setting]:
        if kind is Kind.POLICY:
            rows = await self._database.fetch(QUERIES.page_of_policies, after[1], limit)
        else:
            rows = await self._database.fetch(QUERIES.page, kind, scope, *after, limit)
        return [_setting(row) for row in rows]

    async def since(self, version: int, *, limit: int) -> Sequence[Setting]:
        return [_setting(row) for row in await self._database.fetch(QUERIES.since, version, limit)]

    async def newest(self) -> int:
        return int(await self._database.fetchval(QUERIES.newest))

    async def seed(self, policies: dict[str, PolicyPut]) -> None:
        specs = [spec.model_dump(mode="json") for spec in policies.values()]
        async with self._database.transaction() as connection:
            await connection.execute(QUERIES.lock, LOCK)
            await connection.execute(QUERIES.seed, list(policies), specs)


class PostgresDesk:
    def __init__(self, connection: postgres.Connection) -> None:
        self._connection = connection

    async def find(self, place: Place) -> Setting | None:
        if place.kind is Kind.POLICY:
            row = await self._connection.fetchrow(QUERIES.find_policy, place.name)
        else:
            at = (place.kind, place.scope, place.name)
            row = await self._connection.fetchrow(QUERIES.find, *at)
        return _setting(row) if row is not None else None

    async def put(self, place: Place, said: Said, *, author: str) -> Setting:
        if isinstance(said, PolicyPut):
            return await self._write(place, said.model_dump(mode="json"), author)
        return await self._write(place, document(said), author)

    async def drop(self, place: Place, *, author: str) -> Setting:
        return await self._write(place, None, author)

    async def plans(self, *, policy: str) -> Sequence[Setting]:
        return [_setting(row) for row in await self._connection.fetch(QUERIES.plans_naming, policy)]

    async def shops_on(self, plan: str) -> int:
        return int(await self._connection.fetchval(QUERIES.shops_on, plan))

    async def overrides(
        self, *, policy: str | None = None, plan: str | None = None, shop: str | None = None
    ) -> Sequence[Overriding]:
        rows = await self._connection.fetch(QUERIES.sorts_of_overrides, policy, plan, shop)
        found = [(row, _parsed(Kind.OVERRIDE, row["document"])) for row in rows]
        return [
            Overriding(row["scope"], row["name"], said, row["plan"])
            for row, said in found
            if isinstance(said, OverridePut)
        ]

    async def record(
        self, *, author: str, action: str, subject: str, before: Any, after: Any
    ) -> None:
        await self._connection.execute(QUERIES.record, author, action, subject, before, after)

    async def _write(self, place: Place, written: Any, author: str) -> Setting:
        if place.kind is Kind.POLICY:
            row = await self._connection.fetchrow(QUERIES.put_policy, place.name, written, author)
        else:
            at = (place.kind, place.scope, place.name)
            row = await self._connection.fetchrow(QUERIES.put, *at, written, author)
        await self._connection.execute(QUERIES.tell, CHANNEL, place.kind)
        assert row is not None
        return _setting(row)


def _setting(row: asyncpg.Record) -> Setting:
    kind = Kind(row["kind"])
    said: Said | str | None = None
    if row["document"] is not None:
        said = _parsed(kind, row["document"])
    return Setting(
        place=Place(kind, row["scope"], row["name"]),
        version=row["version"],
        said=None if isinstance(said, str) else said,
        flaw=said if isinstance(said, str) else None,
        author=row["author"],
        updated_at=row["updated_at"],
    )


def _parsed(kind: Kind, text: str) -> Said | str:
    """From JSON, whose enums are text: the strict model takes those from JSON alone. What is wrong
    with it, if it cannot be read."""
    if kind is Kind.LIST:
        return _read(kind, text)
    return _remembered(kind, text)


def _read(kind: Kind, text: str) -> Said | str:
    try:
        return MODELS[kind].model_validate_json(text)
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"/{'/'.join(map(str, found['loc']))}: {found['msg']}"


# A hundred thousand shops are on a few plans: equal words become one object.
_remembered = lru_cache(maxsize=4096)(_read)
