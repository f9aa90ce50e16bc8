"""New jobs into Postgres, many callers per statement.

While one statement is in flight the next gathers; each caller is answered after the commit that
holds its jobs. A statement that fails for what is in it is repeated caller by caller, so that a bad
job harms itself alone.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from chassis import postgres, sql
from chassis.kernel import errors
from queue_service.core.jobs import NewJob, Stored, Verdict

SQL = sql.queries(__file__)

MAX_ROWS = 1000
KNOWN_LANES = 100_000
NO_LANE = 0
A_DAY = timedelta(days=1)


@dataclass(slots=True)
class _Call:
    jobs: Sequence[NewJob]
    done: asyncio.Future[list[Stored]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class _Undone(Exception):
    """An all-or-nothing call met a bad verdict; its transaction is rolled back."""

    def __init__(self, stored: list[Stored]) -> None:
        self.stored = stored


class EnqueueWriter:
    """The Intake on Postgres. `run()` belongs under a Supervisor."""

    def __init__(self, database: postgres.Database) -> None:
        self._database = database
        self._lanes: dict[tuple[str, str], int] = {}
        self._waiting: list[_Call] = []
        self._arrived = asyncio.Event()

    async def put(self, jobs: Sequence[NewJob]) -> list[Stored]:
        call = _Call(jobs)
        self._waiting.append(call)
        self._arrived.set()
        return await call.done

    async def put_all(self, jobs: Sequence[NewJob]) -> list[Stored]:
        try:
            async with self._database.transaction() as connection:
                stored = await self.put_within(connection, jobs)
                if not all(one.is_good for one in stored):
                    raise _Undone(stored)
        except _Undone as undone:
            return undone.stored
        await self.wake(jobs)
        return stored

    async def put_within(
        self, connection: postgres.Connection, jobs: Sequence[NewJob]
    ) -> list[Stored]:
        """Inside the caller's transaction; after its commit `wake(jobs)` is due."""
        await self._learn_lanes(connection, jobs)
        rows = await connection.fetch(SQL.enqueue, *self._columns(jobs))
        return [
            Stored(Verdict(verdict), UUID(bytes=identifier.bytes), *rest)
            for verdict, identifier, *rest in rows
        ]

    async def wake(self, jobs: Iterable[NewJob]) -> None:
        """The other half of the handshake with a claimer that found the lane empty."""
        lanes = {self._lanes.get(_lane(job), NO_LANE) for job in jobs} - {NO_LANE}
        if lanes:
            await self._database.fetchval(SQL.wake, sorted(lanes))

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            await self.run_once()

    async def run_once(self) -> None:
        """One statement for what has gathered."""
        calls = self._next()
        try:
            await self._store(calls)
        except asyncpg.PostgresError:
            for call in calls:
                await self._store_alone(call)
        except errors.Fault as fault:
            for call in calls:
                _fail(call, fault)
        except BaseException:
            for call in calls:
                call.done.cancel()
            raise

    def _next(self) -> list[_Call]:
        size, count = 0, 0
        for call in self._waiting:
            if count and size + len(call.jobs) > MAX_ROWS:
                break
            size, count = size + len(call.jobs), count + 1
        calls, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._arrived.clear()
        return calls

    async def _store_alone(self, call: _Call) -> None:
        try:
            await self._store([call])
        except errors.Fault as fault:
            _fail(call, fault)
        except asyncpg.PostgresError as error:
            _fail(call, errors.Invalid(f"this cannot be stored: {type(error).__name__}"))

    async def _store(self, calls: Sequence[_Call]) -> None:
        jobs = [job for call in calls for job in call.jobs]
        # Lanes may stay without their jobs, so one statement, a transaction of its own, is enough.
        async with self._database.connection() as connection:
            stored = await self.put_within(connection, jobs)
        at = 0
        for call in calls:
            if not call.done.done():
                call.done.set_result(stored[at : at + len(call.jobs)])
            at += len(call.jobs)
        await self.wake(jobs)

    async def _learn_lanes(self, connection: postgres.Connection, jobs: Sequence[NewJob]) -> None:
        unknown = {_lane(job) for job in jobs} - self._lanes.keys()
        if not unknown:
            return
        if len(self._lanes) > KNOWN_LANES:
            self._lanes.clear()
            unknown = {_lane(job) for job in jobs}
        queues, shops = zip(*sorted(unknown), strict=True)
        for queue, shop, lane in await connection.fetch(SQL.lanes, queues, shops):
            self._lanes[queue, shop] = lane

    def _columns(self, jobs: Sequence[NewJob]) -> list[Any]:
        """One array per column; jobs of unknown queues have no lane and are not stored."""
        return [
            [job.id for job in jobs],
            [self._lanes.get(_lane(job), NO_LANE) for job in jobs],
            [job.queue for job in jobs],
            [job.shop for job in jobs],
            [job.kind for job in jobs],
            [job.priority for job in jobs],
            [job.run_at for job in jobs],
            [job.created_at for job in jobs],
            [job.max_attempts for job in jobs],
            [job.timeout_s for job in jobs],
            [job.notify for job in jobs],
            [text_array(job.tags) for job in jobs],
            [job.retry for job in jobs],
            [job.fingerprint for job in jobs],
            [job.args for job in jobs],
            [job.batch_id for job in jobs],
            [job.held for job in jobs],
            [job.scope for job in jobs],
            [job.key for job in jobs],
            _since(jobs),
        ]


def _lane(job: NewJob) -> tuple[str, str]:
    return job.queue, job.shop or ""


def text_array(items: Sequence[str]) -> str:
    """The text of a Postgres array: arrays of arrays must not be ragged."""
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"


def _since(jobs: Sequence[NewJob]) -> datetime | None:
    """Before this no job under one of these ids can have ended; None where an id does not tell.

    A v7 id tells when it was made, unless it claims to be of the future.
    """
    now = datetime.now(UTC)
    made = [_made_at(job.id) for job in jobs]
    if any(moment is None or moment > now for moment in made):
        return None
    return min((moment for moment in made if moment is not None), default=now) - A_DAY


def _made_at(identifier: UUID) -> datetime | None:
    if identifier.version != 7:
        return None
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)


def _fail(call: _Call, fault: errors.Fault) -> None:
    if not call.done.done():
        call.done.set_exception(fault)
