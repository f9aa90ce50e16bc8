"""What owners must still hear."""

from collections.abc import Collection, Sequence
from uuid import UUID

from chassis import sql
from chassis.postgres import Connection, Database
from contracts.commands import ShopVerb
from gateway.core.notices import Notice

SQL = sql.queries(__file__)


class Notices:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, notices: Sequence[Notice]) -> None:
        async with self._database.connection() as connection:
            await keep_within(connection, notices)

    async def claim(self, limit: int) -> list[Notice]:
        rows = await self._database.fetch(SQL.claim, limit)
        return [
            Notice(
                id=row["id"],
                owner=row["owner"],
                shop=row["shop"],
                verb=ShopVerb(row["verb"]),
                said=row["said"],
            )
            for row in sorted(rows, key=lambda row: row["made_at"])
        ]

    async def done(self, ids: Collection[UUID]) -> None:
        await self._database.execute(SQL.done, list(ids))

    async def later(self, ids: Collection[UUID], *, seconds: float) -> None:
        await self._database.execute(SQL.later, list(ids), seconds)

    async def count(self) -> tuple[int, float]:
        """How many wait, and the age of the oldest in seconds."""
        row = await self._database.fetchrow(SQL.count)
        assert row is not None
        return row["count"], row["age_s"]


async def keep_within(connection: Connection, notices: Sequence[Notice]) -> None:
    """Inside the caller's transaction."""
    await connection.execute(
        SQL.keep,
        [each.id for each in notices],
        [each.owner for each in notices],
        [each.shop for each in notices],
        [each.verb for each in notices],
        [each.said for each in notices],
    )
