"""Schedules, and the fires that they make."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from chassis import logs, postgres, sql
from chassis.kernel import errors
from queue_service import metrics
from queue_service.core import cron, schedules
from queue_service.core.jobs import NewJob, Verdict
from queue_service.core.ports import Rejection
from queue_service.core.schedules import Due, NewSchedule, Schedule
from queue_service.store.enqueue import MAX_ROWS, EnqueueWriter
from queue_service.store.jobs import reject_within

log = logs.get(__name__)
SQL = sql.queries(__file__)


class PostgresSchedules:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        now: datetime = await self._database.fetchval(SQL.now)
        return now

    async def put(
        self, new: NewSchedule, next_fire_at: datetime | None, *, shop: str | None
    ) -> bool | None:
        made: bool | None = await self._database.fetchval(
            SQL.put, new.name, new.shop, new.cron, new.timezone, new.job, new.missed, new.overlap,
            new.enabled, next_fire_at, shop,
        )  # fmt: skip
        return made

    async def get(self, name: str) -> Schedule | None:
        rows = await self._database.fetch(SQL.page, name, None, "", 1)
        return _schedule(rows[0]) if rows else None

    async def page(self, *, shop: str | None, after: str, limit: int) -> list[Schedule]:
        rows = await self._database.fetch(SQL.page, None, shop, after, limit)
        return [_schedule(row) for row in rows]

    async def delete(self, name: str, *, shop: str | None) -> bool:
        return bool(await self._database.fetchval(SQL.delete, name, shop))


class PostgresFires:
    """Makes the jobs of due schedules. Any number of processes may do it at once."""

    def __init__(self, *, database: postgres.Database, writer: EnqueueWriter) -> None:
        self._database = database
        self._writer = writer

    async def fire(self, *, limit: int) -> int:
        """One transaction: the jobs, and the schedules moved on. How many were due."""
        if not await self._database.fetchval(SQL.is_due):
            return 0
        async with self._database.transaction() as connection:
            now: datetime = await connection.fetchval(SQL.now)
            rows = await connection.fetch(SQL.due, limit)
            jobs = [job for row in rows for job in await self._fire(connection, _due(row), now)]
        if jobs:
            await self._writer.wake(jobs)
        return len(rows)

    async def _fire(
        self, connection: postgres.Connection, due: Due, now: datetime
    ) -> Sequence[NewJob]:
        schedule = due.schedule
        try:
            plan = schedules.plan(due, now)
            jobs = [schedules.job_of(schedule, fire, now) for fire in plan.fires]
        except (cron.WrongCron, cron.WrongZone, errors.Invalid) as error:
            # Valid when it was put: a rule or a time zone has changed since. It rests.
            log.error("schedule_unreadable", schedule=schedule.name, why=str(error))
            metrics.SCHEDULE_FIRES.labels("unreadable").inc()
            await connection.execute(SQL.move, schedule.name, None, None, None)
            return ()
        last_id = await self._store(connection, jobs)
        metrics.SCHEDULE_FIRES.labels("fired").inc(len(jobs))
        metrics.SCHEDULE_FIRES.labels("skipped").inc(plan.passed_over)
        last = plan.fires[-1] if plan.fires else None
        await connection.execute(SQL.move, schedule.name, plan.next_fire_at, last, last_id)
        return jobs

    async def _store(self, connection: postgres.Connection, jobs: Sequence[NewJob]) -> UUID | None:
        """The id of the last one's job, which for a unique job may be another's."""
        last_id: UUID | None = None
        for start in range(0, len(jobs), MAX_ROWS):
            chunk = jobs[start : start + MAX_ROWS]
            stored = await self._writer.put_within(connection, chunk)
            last_id = stored[-1].id
            wrong = [
                Rejection(job, one.verdict, f"a fire's job could not be stored in {job.queue}")
                for job, one in zip(chunk, stored, strict=True)
                if one.verdict is Verdict.UNKNOWN_QUEUE
            ]
            if wrong:
                await reject_within(connection, wrong)
        return last_id


def _schedule(row: asyncpg.Record) -> Schedule:
    return Schedule(**_plain(row))


def _due(row: asyncpg.Record) -> Due:
    given = _plain(row)
    is_busy = given.pop("is_busy")
    return Due(Schedule(**given), is_busy)


def _plain(row: asyncpg.Record) -> dict[str, Any]:
    given = dict(row)
    # The driver's own kind of UUID is none that a JSON writer knows.
    if given["last_job_id"] is not None:
        given["last_job_id"] = UUID(bytes=given["last_job_id"].bytes)
    return given
