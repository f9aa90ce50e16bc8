"""Tokens of sessions, as grants write them. Each method is one statement."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis import postgres, sql
from session_service.core.grants import State
from session_service.core.ports import Endless, Granted, Warm
from session_service.core.sealing import Sealed

SQL = sql.queries(__file__)
_STATE = frozenset(State.__dataclass_fields__)


class PostgresGrants:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def find(self, session_id: str) -> tuple[Sealed, State] | None:
        row = await self._database.fetchrow(SQL.find, session_id)
        if row is None:
            return None
        state = State(**{name: row[name] for name in _STATE})
        return Sealed(**{name: row[name] for name in set(row.keys()) - _STATE}), state

    async def insert(self, new: Granted, *, lease: str, owner: UUID) -> int | None:
        row = new.row
        version = await self._database.fetchval(
            SQL.insert,
            lease,
            owner,
            row.id,
            row.shop,
            row.is_online,
            row.user_id,
            row.scope,
            row.body,
            row.access_token,
            row.refresh_token,
            row.previous_refresh_token,
            row.expires_ms,
            row.refresh_expires_ms,
            new.ends_ms,
            new.key_id,
            new.way,
            new.granted_at,
            new.event,
        )
        return None if version is None else int(version)

    async def commit(
        self, new: Granted, *, lease: str, owner: UUID, rejected_at: datetime | None
    ) -> int | None:
        row = new.row
        version = await self._database.fetchval(
            SQL.commit,
            lease,
            owner,
            row.id,
            row.access_token,
            row.refresh_token,
            row.previous_refresh_token,
            row.expires_ms,
            row.refresh_expires_ms,
            new.ends_ms,
            row.scope,
            row.user_id,
            row.body if row.is_online else None,
            new.key_id,
            new.retired,
            new.way,
            new.granted_at,
            rejected_at,
            row.gen,
            row.version,
            new.event,
            new.is_rescoped,
        )
        return None if version is None else int(version)

    async def put_off(
        self,
        session_id: str,
        *,
        owner: UUID,
        gen: int,
        is_refusal: bool,
        until: datetime,
        reason: str,
        way: str,
    ) -> None:
        await self._database.fetchval(
            SQL.put_off, session_id, owner, gen, int(is_refusal), until, reason, way
        )

    async def give_up(
        self, session_id: str, *, owner: UUID, gen: int, reason: str, way: str
    ) -> int | None:
        version = await self._database.fetchval(SQL.give_up, session_id, owner, gen, reason, way)
        return None if version is None else int(version)

    async def warm(
        self, *, now_ms: int, within_ms: int, urgent_ms: int, hour: int, limit: int
    ) -> Sequence[Warm]:
        rows = await self._database.fetch(SQL.warm, now_ms, within_ms, urgent_ms, hour, limit)
        return [Warm(row["id"], row["shop"], row["gen"]) for row in rows]

    async def endless(self, *, now: datetime, limit: int) -> Sequence[Endless]:
        rows = await self._database.fetch(SQL.endless, now, limit)
        return [Endless(row["id"], row["shop"]) for row in rows]

    async def count_endless(self) -> int:
        return int(await self._database.fetchval(SQL.count_endless))

    async def postpone(self, session_id: str, *, until: datetime) -> None:
        await self._database.execute(SQL.postpone, session_id, until)
