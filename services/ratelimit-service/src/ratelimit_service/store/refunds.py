"""Nonces of charges that were given back, each committed to the disk before it counts."""

from chassis import sql
from chassis.postgres import Database

QUERIES = sql.queries(__file__)


class PostgresNonces:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def spend(self, nonce: bytes, *, lasts_s: float) -> bool:
        return bool(await self._database.fetchval(QUERIES.spend, nonce, lasts_s))

    async def sweep(self) -> None:
        await self._database.execute(QUERIES.sweep)
