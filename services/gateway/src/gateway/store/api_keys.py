"""The table of API keys. Every change is told to the other replicas."""

import asyncpg

from chassis import sql
from chassis.kernel import errors
from chassis.postgres import Database
from gateway.core import keys, ports

SQL = sql.queries(__file__)
CHANNEL = "api_keys"


class ApiKeys:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, key_id: str) -> keys.ApiKey | None:
        row = await self._database.fetchrow(SQL.find, key_id)
        return _key(row) if row is not None else None

    async def read(self) -> list[keys.ApiKey]:
        return [_key(row) for row in await self._database.fetch(SQL.read)]

    async def create(self, new: ports.NewKey) -> tuple[keys.ApiKey, str]:
        key = new.key
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                SQL.create,
                key.id,
                key.name,
                key.digest,
                sorted(key.scopes),
                key.shop,
                key.expires_at,
                key.created_at,
                new.repeat_scope,
                new.repeat,
                new.fingerprint,
            )
            if row is not None:
                await connection.execute(SQL.tell)
            else:
                row = await connection.fetchrow(SQL.find_repeat, new.repeat_scope, new.repeat)
        if row is None:
            raise errors.Unavailable("the key of this request has just been deleted")
        return _key(row), row["fingerprint"]

    async def delete(self, key_id: str, *, shop: str | None) -> bool:
        async with self._database.transaction() as connection:
            tag = await connection.execute(SQL.delete, key_id, shop)
            await connection.execute(SQL.tell)
        return bool(tag.endswith(" 1"))


def _key(row: asyncpg.Record) -> keys.ApiKey:
    return keys.ApiKey(
        id=row["id"],
        name=row["name"],
        digest=row["digest"],
        scopes=frozenset(row["scopes"]),
        shop=row["shop"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
    )
