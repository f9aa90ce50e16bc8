"""Jobs read, listed, cancelled and rejected."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from chassis import postgres, sql
from queue_service.core.ports import Job, JobFilter, Page, Position, Rejection
from queue_service.store.columns import text_array
from queue_service.store.sealing import ARGS, RESULT, Seals

SQL = sql.queries(__file__)

# How many jobs one page looks at.
SCAN_MAX = 50_000
PARTS = {
    "completed": "done",
    "cancelled": "done",
    "failed": "failed",
    "rejected": "failed",
}
ALL_PARTS = ("live", "done", "failed")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = int((datetime.max.replace(tzinfo=UTC) - EPOCH) / timedelta(milliseconds=1))
FIRST_LOOK = 1000


class PostgresJobs:
    """What is sealed stays so, unless there are `seals` to open it."""

    def __init__(
        self,
        database: postgres.Database,
        *,
        seals: Seals | None = None,
        scan_max: int = SCAN_MAX,
    ) -> None:
        self._database = database
        self._seals = seals
        self._scan_max = scan_max

    async def get(self, job_id: UUID) -> Job | None:
        return (await self.many([job_id])).get(job_id)

    async def many(self, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
        found: dict[UUID, Job] = {}
        if (since := _since(job_ids)) is not None:
            found = self._by_id(await self._database.fetch(SQL.many_since, job_ids, since))
        # An own id may tell a wrong time: whoever was not found is looked for everywhere.
        if missing := [job_id for job_id in job_ids if job_id not in found]:
            found |= self._by_id(await self._database.fetch(SQL.many, missing))
        missing = [job_id for job_id in job_ids if job_id not in found]
        return found | await self._aliased(missing) if missing else found

    def _by_id(self, rows: Sequence[asyncpg.Record]) -> dict[UUID, Job]:
        return {job.id: job for job in map(self._job, rows)}

    async def _aliased(self, job_ids: Sequence[UUID]) -> dict[UUID, Job]:
        """Under ids of their own, jobs that were merged into unique ones."""
        jobs = {}
        for row in await self._database.fetch(SQL.aliased, job_ids):
            alias = UUID(bytes=row["alias"].bytes)
            jobs[alias] = self._job(row)
        return jobs

    async def newest(self, wanted: JobFilter, *, after: Position | None, limit: int) -> Page:
        where = _where(wanted, after)
        block, bound = (
            (SQL.newest, self._scan_max)
            if wanted.batch_id is None
            else (SQL.newest_of_batch, wanted.batch_id)
        )
        filters = (wanted.queue, wanted.state, wanted.shop, wanted.kind, wanted.tag, limit + 1)
        rows: Sequence[asyncpg.Record] = ()
        if wanted.batch_id is None:  # a short look walks the index, a long one may sort
            rows = await self._database.fetch(
                block, *where, min(FIRST_LOOK, self._scan_max), *filters
            )
        if len(rows) <= limit:
            rows = await self._database.fetch(block, *where, bound, *filters)
        jobs = [self._job(row) for row in rows[:limit]]
        if len(rows) > limit:
            return Page(jobs, _position(jobs[-1]))
        return Page(jobs, await self._unseen(where, jobs) if wanted.batch_id is None else None)

    async def _unseen(self, where: Sequence[Any], jobs: Sequence[Job]) -> Position | None:
        """Where to go on looking when the page is not full because enough was looked at."""
        row = await self._database.fetchrow(SQL.last_seen, *where, self._scan_max)
        if row is None:
            return None
        last = Position(row["created_at"], UUID(bytes=row["id"].bytes))
        # What has come since then has moved the end of the look towards now.
        return min([last, *map(_position, jobs[-1:])], key=_order)

    async def cancel(self, job_id: UUID) -> str | None:
        state: str | None = await self._database.fetchval(SQL.cancel, job_id)
        return state

    def _job(self, row: asyncpg.Record) -> Job:
        job = _job(row)
        if self._seals is None or not job.is_sealed:
            return job
        args = self._seals.open(job.args, job.id, ARGS)
        return replace(job, args=args, result=self._seals.open(job.result, job.id, RESULT))

    async def forgotten(self, shops: Collection[str]) -> dict[str, datetime]:
        if not shops:
            return {}
        rows = await self._database.fetch(SQL.forgotten, list(shops))
        return {row["shop"]: row["before"] for row in rows}

    async def reject(self, rejections: Sequence[Rejection]) -> None:
        async with self._database.transaction() as connection:
            await reject_within(connection, rejections)


async def reject_within(connection: postgres.Connection, rejections: Sequence[Rejection]) -> None:
    """Inside the caller's transaction."""
    jobs = [one.job for one in rejections]
    await connection.execute(SQL.lock_ids, [job.id for job in jobs])
    await connection.execute(
        SQL.reject,
        [job.id for job in jobs],
        [job.queue for job in jobs],
        [job.kind for job in jobs],
        [job.shop for job in jobs],
        [job.priority for job in jobs],
        [job.max_attempts or 1 for job in jobs],
        [job.run_at for job in jobs],
        [job.created_at for job in jobs],
        [text_array(job.tags) for job in jobs],
        [job.fingerprint for job in jobs],
        [job.args for job in jobs],
        [one.code for one in rejections],
        [one.message for one in rejections],
    )


def _since(job_ids: Sequence[UUID]) -> datetime | None:
    """No job of these has ended before, if their ids tell when they were made."""
    made_ms = [job_id.int >> 80 for job_id in job_ids if job_id.version == 7]
    if not made_ms or len(made_ms) < len(job_ids):
        return None
    made = EPOCH + timedelta(milliseconds=min(*made_ms, LAST_MS))
    return made - timedelta(days=1)


def _where(wanted: JobFilter, after: Position | None) -> list[Any]:
    parts = ALL_PARTS if wanted.state is None else (PARTS.get(wanted.state, "live"),)
    position: tuple[datetime | None, UUID | None] = (None, None)
    if after is not None:
        position = (after.created_at, after.id)
    return [list(parts), *position, wanted.since, wanted.until]


def _position(job: Job) -> Position:
    return Position(job.created_at, job.id)


def _order(position: Position) -> tuple[datetime, UUID]:
    return position.created_at, position.id


def _job(row: asyncpg.Record) -> Job:
    given = {name: value for name, value in row.items() if name != "alias"}
    # The driver's own kind of UUID is none that a JSON writer knows.
    for name in ("id", "batch_id", "worker"):
        if given[name] is not None:
            given[name] = UUID(bytes=given[name].bytes)
    return Job(**given)
