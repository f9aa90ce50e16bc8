"""What operators have said of circuits, and how the circuits of every gateway have changed."""

from collections.abc import Sequence

import asyncpg

from chassis import sql
from chassis.kernel.breaker import State, Why
from chassis.postgres import Database
from contracts.gateway import CircuitMode
from gateway.core.circuits import Change, Override

SQL = sql.queries(__file__)
CHANNEL = "circuits"


class Circuits:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def override(
        self, upstream: str, mode: CircuitMode, *, for_s: float, reason: str, by: str
    ) -> None:
        async with self._database.transaction() as connection:
            if mode is CircuitMode.AUTO:
                await connection.execute(SQL.take_back, upstream)
            else:
                await connection.execute(SQL.override, upstream, mode, reason, by, for_s)
            await connection.execute(SQL.announce)

    async def overrides(self) -> list[Override]:
        return [
            Override(
                upstream=row["upstream"],
                mode=CircuitMode(row["mode"]),
                reason=row["reason"],
                by=row["said_by"],
                left_s=row["left_s"],
                until=row["until"],
            )
            for row in await self._database.fetch(SQL.overrides)
        ]

    async def record(self, changes: Sequence[Change]) -> None:
        await self._database.execute(
            SQL.record,
            [each.id for each in changes],
            [each.at for each in changes],
            [each.upstream for each in changes],
            [each.gateway for each in changes],
            [each.old for each in changes],
            [each.state for each in changes],
            [each.why for each in changes],
            [each.mode for each in changes],
            [each.until for each in changes],
            [each.reason for each in changes],
            [each.by for each in changes],
        )

    async def newest(self, limit: int) -> list[Change]:
        return [_change(row) for row in await self._database.fetch(SQL.newest, limit)]


def _change(row: asyncpg.Record) -> Change:
    return Change(
        id=row["id"],
        at=row["at"],
        upstream=row["upstream"],
        gateway=row["gateway"],
        old=State(row["old"]),
        state=State(row["state"]),
        why=Why(row["why"]),
        mode=CircuitMode(row["mode"]) if row["mode"] is not None else None,
        until=row["until"],
        reason=row["reason"],
        by=row["said_by"],
    )
