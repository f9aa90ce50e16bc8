"""The history of tokens, written with what it tells of."""

from collections.abc import Sequence

from chassis import postgres, sql
from chassis.web import trace
from session_service.core.audit import Change, Told

SQL = sql.queries(__file__)


async def tell(connection: postgres.Connection, change: Change) -> None:
    """Inside the caller's transaction. A single statement may call `record_event` itself."""
    await connection.execute(
        SQL.tell,
        change.kind,
        change.session_id,
        change.shop,
        change.user_id,
        change.version,
        change.grant,
        change.reason,
        change.scope,
        trace.current().traceparent(),
    )


class PostgresHistory:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def of_shop(self, shop: str, *, before: int | None, limit: int) -> Sequence[Told]:
        rows = await self._database.fetch(SQL.of_shop, shop, before, limit)
        return [Told(**row) for row in rows]

    async def delete_old(self, *, days: int, limit: int) -> int:
        tag = await self._database.execute(SQL.delete_old, days, limit)
        return int(tag.rpartition(" ")[2])
