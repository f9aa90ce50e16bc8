"""Usage in Postgres: a row per shop, policy and minute, kept for some hours."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from chassis import outbox, sql
from chassis.postgres import Database
from contracts.ratelimits import ShopCount
from ratelimit_service.core.usage import Denial, Flush, Row

QUERIES = sql.queries(__file__)

# Above so many waiting events no denial is told any more.
MAX_EVENTS = 10_000
# Events that nobody has fetched for so long are news no longer.
EVENTS_HOURS = 24
CHUNK = 5_000
START = datetime.fromtimestamp(0, UTC)


class PostgresUsage:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, replica: UUID, flush: Flush) -> None:
        rows = flush.rows
        async with self._database.transaction() as connection:
            await connection.execute(
                QUERIES.add,
                replica,
                flush.number,
                [row.begins_at for row in rows],
                [row.shop for row in rows],
                [row.policy for row in rows],
                [row.allowed for row in rows],
                [row.denied for row in rows],
                [row.shadow_denied for row in rows],
                [row.cost for row in rows],
            )
            if flush.denials and await connection.fetchval(QUERIES.has_room, MAX_EVENTS):
                await outbox.put(connection, _events(flush.denials))

    async def top(self, *, by: str, minutes: int, limit: int) -> Sequence[ShopCount]:
        return list(map(_count, await self._database.fetch(QUERIES.top, by, minutes, limit)))

    async def of_shop(self, shop: str, *, minutes: int) -> Sequence[ShopCount]:
        return list(map(_count, await self._database.fetch(QUERIES.of_shop, shop, minutes)))

    async def began(self, *, minutes: int) -> datetime:
        moment: datetime = await self._database.fetchval(QUERIES.began, minutes)
        return moment

    async def page(
        self, policy: str, *, since: datetime, after: Row | None, limit: int
    ) -> Sequence[Row]:
        place = (after.shop, after.begins_at) if after else ("", START)
        rows = await self._database.fetch(QUERIES.page, policy, since, *place, limit)
        return list(map(_row, rows))

    async def expire(self, *, hours: int) -> bool:
        """Is there more to remove?"""
        gone = await self._database.execute(QUERIES.expire_usage, hours, CHUNK)
        told = await self._database.execute(QUERIES.expire_events, EVENTS_HOURS, CHUNK)
        await self._database.execute(QUERIES.expire_flushes)
        return f"DELETE {CHUNK}" in (gone, told)


def _events(denials: Sequence[Denial]) -> list[tuple[UUID, str, dict[str, object]]]:
    events = [denial.event() for denial in denials]
    return [(event.id, event.type, event.model_dump(mode="json")) for event in events]


def _count(row: asyncpg.Record) -> ShopCount:
    return ShopCount(**row)


def _row(row: asyncpg.Record) -> Row:
    minute = int(row["minute"].timestamp()) // 60
    counts = (row["allowed"], row["denied"], row["shadow_denied"], row["cost"])
    return Row(minute, row["shop"], row["policy"], *counts)
