"""What becomes of the sessions of a shop whose installation has changed. Each is one statement."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis import postgres, sql
from chassis.web import trace
from session_service.core.ports import Gone

SQL = sql.queries(__file__)


class PostgresInstallations:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def uninstalled(self, shop: str, *, before: datetime) -> list[Gone]:
        return _gone(await self._database.fetch(SQL.uninstalled, shop, before, _traceparent()))

    async def scopes_updated(self, shop: str, *, scope: str, at: datetime) -> list[Gone]:
        return _gone(
            await self._database.fetch(SQL.scopes_updated, shop, scope, at, _traceparent())
        )

    async def redacted(
        self, shop: str, *, before: datetime, event_id: UUID, event: dict[str, Any]
    ) -> list[Gone]:
        rows = await self._database.fetch(
            SQL.redacted, shop, before, event_id, event["type"], event
        )
        return _gone(rows)


def _traceparent() -> str:
    return trace.current().traceparent()


def _gone(rows: Sequence[Any]) -> list[Gone]:
    return [Gone(row["id"], row["version"]) for row in rows]
