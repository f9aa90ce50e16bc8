"""Rows of uploads: noted, and made into jobs, in one transaction."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from chassis import postgres, sql
from chassis.kernel import errors, ids
from contracts import jobs as wire
from queue_service.core.enqueue import due_at, unknown_queue
from queue_service.core.jobs import NewJob, Verdict
from queue_service.core.uploads import Fate, Refused, Row, Target
from queue_service.store.enqueue import EnqueueWriter

SQL = sql.queries(__file__)


class PostgresRows:
    def __init__(self, *, database: postgres.Database, writer: EnqueueWriter) -> None:
        self._database = database
        self._writer = writer

    async def target(self, batch_id: UUID) -> Target | None:
        row = await self._database.fetchrow(SQL.target, batch_id)
        return Target(batch_id, row["kind"], row["shop"], row["default_args"]) if row else None

    async def put(
        self, batch_id: UUID, source: str, rows: Sequence[Row], refused: Sequence[Refused]
    ) -> list[Fate]:
        async with self._database.transaction() as connection:
            batch = await self._open(connection, batch_id)
            fates = await self._note(connection, batch_id, source, rows)
            fresh = [row for row, fate in zip(rows, fates, strict=True) if fate is Fate.ACCEPTED]
            jobs = _jobs(batch_id, batch, fresh)
            await self._store(connection, jobs)
            await self._refuse(connection, batch_id, source, fresh, refused)
            await connection.execute(SQL.add, batch_id, len(fresh))
        await self._writer.wake(jobs)
        return fates

    async def compare(self, batch_id: UUID, source: str, rows: Sequence[Row]) -> list[Fate]:
        async with self._database.connection() as connection:
            return await self._fates(connection, batch_id, source, rows, noted=None)

    async def _open(self, connection: postgres.Connection, batch_id: UUID) -> asyncpg.Record:
        batch = await connection.fetchrow(SQL.lock, batch_id)
        if batch is None:
            raise errors.NotFound("there is no such batch")
        if batch["is_closed"]:
            raise errors.Conflict("the batch is closed and takes no more", code="batch_closed")
        return batch

    async def _note(
        self, connection: postgres.Connection, batch_id: UUID, source: str, rows: Sequence[Row]
    ) -> list[Fate]:
        noted = await connection.fetch(
            SQL.note, batch_id, source, [row.number for row in rows], [row.digest for row in rows]
        )
        return await self._fates(
            connection, batch_id, source, rows, noted={row["number"] for row in noted}
        )

    async def _fates(
        self,
        connection: postgres.Connection,
        batch_id: UUID,
        source: str,
        rows: Sequence[Row],
        *,
        noted: set[int] | None,
    ) -> list[Fate]:
        """`noted`: the rows that are new; None when nothing was written, so that all are unless
        they are known."""
        numbers = [row.number for row in rows if noted is None or row.number not in noted]
        before = {
            row["number"]: row["digest"]
            for row in await connection.fetch(SQL.known, batch_id, source, numbers)
        }
        return [_fate(row, before.get(row.number)) for row in rows]

    async def _store(self, connection: postgres.Connection, jobs: Sequence[NewJob]) -> None:
        if not jobs:
            return
        for one in await self._writer.put_within(connection, jobs):
            if one.verdict is not Verdict.CREATED:
                raise unknown_queue(jobs[0].queue, "")

    async def _refuse(
        self,
        connection: postgres.Connection,
        batch_id: UUID,
        source: str,
        fresh: Sequence[Row],
        refused: Sequence[Refused],
    ) -> None:
        if fresh:
            await connection.execute(SQL.forgive, batch_id, source, [row.number for row in fresh])
        if refused:
            await connection.execute(
                SQL.refuse,
                batch_id,
                source,
                [row.number for row in refused],
                [row.line for row in refused],
                [row.detail for row in refused],
            )


def _fate(row: Row, before: bytes | None) -> Fate:
    if before is None:
        return Fate.ACCEPTED
    return Fate.DUPLICATE if before == row.digest else Fate.CONFLICT


def _jobs(batch_id: UUID, batch: asyncpg.Record, rows: Sequence[Row]) -> list[NewJob]:
    """What a row does not say, the batch's defaults do."""
    defaults = wire.JobSpec.model_validate_json(json.dumps(batch["defaults"]))
    run_at = due_at(defaults, datetime.now(UTC))
    retry = defaults.retry.model_dump() if defaults.retry is not None else None
    return [
        NewJob(
            id=ids.new_id(),
            kind=batch["kind"],
            queue=batch["queue"],
            args=row.item.args,
            fingerprint=row.digest.hex(),
            shop=row.item.shop or defaults.shop or batch["shop"],
            priority=defaults.priority if row.item.priority is None else row.item.priority,
            run_at=row.item.run_at or run_at,
            max_attempts=defaults.max_attempts,
            timeout_s=defaults.timeout_s,
            tags=defaults.tags if row.item.tags is None else row.item.tags,
            retry=retry,
            notify=defaults.notify,
            batch_id=batch_id,
            held=batch["paused"],
            is_secret=True,
        )
        for row in rows
    ]
