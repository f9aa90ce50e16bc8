"""The history of tokens, written with what it tells of."""

from chassis import postgres, sql
from chassis.web import trace
from session_service.core.audit import Change

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
