"""Credit of this worker, and the jobs that come for it (migrations/0016_enqueue.sql)."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis import postgres, sql
from queue_service.core.attempts import Claimed
from queue_service.store.sealing import NONE as NO_SEALS
from queue_service.store.sealing import Seals

SQL = sql.queries(__file__)
PING = "ping"


class PostgresCredit:
    """`channel` is this process's own, whatever its worker's id is at the time."""

    def __init__(self, database: postgres.Database, seals: Seals = NO_SEALS) -> None:
        self._database = database
        self._seals = seals
        self.channel = f"hand_{secrets.token_hex(8)}"

    async def offer(self, queue: str, worker: UUID, slots: int) -> bool:
        try:
            return bool(
                await self._database.fetchval(SQL.offer, queue, worker, self.channel, slots)
            )
        except asyncpg.ForeignKeyViolationError:
            return False

    async def withdraw(self, worker: UUID) -> Mapping[str, int]:
        rows = await self._database.fetch(SQL.withdraw, worker)
        return {row["queue"]: row["slots"] for row in rows}

    async def ping(self) -> None:
        await self._database.fetchval(SQL.ping, self.channel, PING)

    def read(self, payload: str) -> tuple[UUID, Claimed] | None:
        if payload == PING:
            return None
        (worker, job_id, lease_no, lane, queue, kind, shop, attempt, max_attempts, timeout_s, retry,
         tags, created_at, run_at, given) = postgres.loads(payload)  # fmt: skip
        identifier = UUID(job_id)
        args, is_sealed, is_broken = self._seals.opened_args(given, identifier)
        return UUID(worker), Claimed(
            id=identifier,
            lease_no=lease_no,
            lane=lane,
            queue=queue,
            kind=kind,
            shop=shop,
            attempt=attempt,
            max_attempts=max_attempts,
            snoozes=0,
            timeout_s=timeout_s,
            retry=retry,
            tags=tags,
            batch_id=None,
            created_at=datetime.fromisoformat(created_at),
            run_at=datetime.fromisoformat(run_at),
            args=args,
            is_sealed=is_sealed,
            is_broken=is_broken,
        )
