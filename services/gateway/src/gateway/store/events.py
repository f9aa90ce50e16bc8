"""The log of events: an inbox (each id once) and what the stream of events is read from."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chassis import sql
from chassis.postgres import Connection, Database
from gateway.core.ports import LoggedEvent
from gateway.core.redaction import Redaction, redactions
from gateway.store import notices

SQL = sql.queries(__file__)
DAY_S = 86_400.0


class Events:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, envelopes: Sequence[dict[str, Any]]) -> int:
        async with self._database.transaction() as connection:
            await connection.execute(SQL.lock)
            rows = await connection.fetch(
                SQL.append,
                [UUID(each["id"]) for each in envelopes],
                [each["type"] for each in envelopes],
                [each.get("shop") for each in envelopes],
                list(envelopes),
            )
            new = {row["event_id"] for row in rows}
            for redaction in redactions(envelopes):
                if redaction.event_id in new:
                    await _forget(connection, redaction)
        return len(rows)

    async def after(self, number: int, *, shop: str | None, limit: int) -> list[LoggedEvent]:
        rows = await self._database.fetch(SQL.after, number, shop, limit)
        return [LoggedEvent(row["number"], row["envelope"]) for row in rows]

    async def last(self) -> int:
        return int(await self._database.fetchval(SQL.last))

    async def forget(self, *, days: float) -> int:
        tag = await self._database.execute(SQL.forget, days * DAY_S)
        return int(tag.rpartition(" ")[2])


async def _forget(connection: Connection, redaction: Redaction) -> None:
    shop, before = redaction.shop, redaction.before
    await connection.execute(SQL.forget_events, shop, before, redaction.event_id)
    await connection.execute(SQL.empty_accepted, shop, before)
    await notices.keep_within(connection, redaction.notices())
