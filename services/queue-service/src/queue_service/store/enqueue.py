"""New jobs into Postgres, many callers per statement.

While one statement is in flight the next gathers; each caller is answered after the commit that
holds its jobs. A statement that fails for what is in it is repeated caller by caller, so that a bad
job harms itself alone.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
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
DEFAULT_PRIORITY = 5
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
        lanes = await self._lanes_of(connection, jobs)
        rows = await connection.fetch(SQL.enqueue, *_columns(jobs, lanes))
        return _in_order(jobs, rows)

    async def wake(self, jobs: Iterable[NewJob]) -> None:
        """The other half of the handshake with a claimer that found the lane empty."""
        async with self._database.connection() as connection:
            lanes = await self._lanes_of(connection, jobs)
            if lanes:
                await connection.fetchval(SQL.wake, sorted(lanes.values()))

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

    async def _lanes_of(
        self, connection: postgres.Connection, jobs: Iterable[NewJob]
    ) -> dict[tuple[str, str], int]:
        """Committed lanes alone are remembered: those of a transaction may be undone with it."""
        wanted = set(map(_lane, jobs))
        found = {lane: self._lanes[lane] for lane in wanted if lane in self._lanes}
        # A lane that somebody else commits meanwhile is seen by the second statement alone.
        for _ in range(2):
            if missing := sorted(wanted - found.keys()):
                queues, shops = zip(*missing, strict=True)
                rows = await connection.fetch(SQL.lanes, queues, shops)
                found |= {(queue, shop): lane for queue, shop, lane in rows}
        if not connection.is_in_transaction():
            if len(self._lanes) > KNOWN_LANES:
                self._lanes.clear()
            self._lanes |= found
        return found


def _columns(jobs: Sequence[NewJob], lanes: Mapping[tuple[str, str], int]) -> list[Any]:
    """One array per column; jobs of unknown queues have no lane and are not stored."""
    told = [job.id for job in jobs if not job.is_secret]
    return [
        [job.id for job in jobs],
        [lanes.get(_lane(job), NO_LANE) for job in jobs],
        [job.kind for job in jobs],
        [job.fingerprint for job in jobs],
        [job.args for job in jobs],
        _sparse([job.priority for job in jobs], DEFAULT_PRIORITY),
        _sparse([job.run_at for job in jobs]),
        _sparse([job.created_at for job in jobs]),
        _sparse([job.max_attempts for job in jobs]),
        _sparse([job.timeout_s for job in jobs]),
        _sparse([job.notify for job in jobs], False),
        [text_array(job.tags) for job in jobs] if any(job.tags for job in jobs) else [],
        _sparse([job.retry for job in jobs]),
        _sparse([job.batch_id for job in jobs]),
        _sparse([job.held for job in jobs], False),
        [job.scope for job in jobs] if any(job.key is not None for job in jobs) else [],
        _sparse([job.key for job in jobs]),
        told,
        _since(told),
    ]


def _sparse(values: list[Any], default: Any = None) -> list[Any]:
    """Nothing where all are the default: encoding arrays is what an enqueue costs most."""
    return [] if values.count(default) == len(values) else values


def _lane(job: NewJob) -> tuple[str, str]:
    return job.queue, job.shop or ""


def text_array(items: Sequence[str]) -> str:
    """The text of a Postgres array: arrays of arrays must not be ragged."""
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"


def _since(told: Sequence[UUID]) -> datetime | None:
    """Before this no job under one of these ids can have ended; None where an id does not tell.

    A v7 id tells when it was made, unless it claims to be of the future.
    """
    now = datetime.now(UTC)
    oldest_ms = now.timestamp() * 1000
    for identifier in told:
        made_ms = identifier.int >> 80
        if identifier.version != 7 or made_ms > now.timestamp() * 1000:
            return None
        oldest_ms = min(oldest_ms, made_ms)
    return datetime.fromtimestamp(oldest_ms / 1000, UTC) - A_DAY


def _in_order(jobs: Sequence[NewJob], rows: Sequence[asyncpg.Record]) -> list[Stored]:
    """What the function answered, job by job. An id given twice is created once."""
    created: dict[UUID, Stored] = {}
    others: dict[int, Stored] = {}
    for place, verdict, identifier, *rest in rows:
        stored = Stored(Verdict(verdict), identifier, *rest)
        if place is None:
            created[identifier] = stored
        else:
            others[place - 1] = stored
    return [
        created.pop(job.id) if job.id in created else others[place]
        for place, job in enumerate(jobs)
    ]


def _fail(call: _Call, fault: errors.Fault) -> None:
    if not call.done.done():
        call.done.set_exception(fault)
