"""New jobs into Postgres, many callers per statement.

While one statement is in flight the next gathers; each caller is answered after the commit that
holds its jobs. A statement that fails for what is in it is repeated caller by caller, so that a bad
job harms itself alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from chassis import postgres, sql
from chassis.kernel import errors
from queue_service.core.jobs import NewJob, Stored, Verdict
from queue_service.store.sealing import ARGS, Seals
from queue_service.store.sealing import NONE as NO_SEALS

SQL = sql.queries(__file__)

# What the database says of plain args in a queue that is sealed.
UNSEALED = "MS001"
REPLACE = "replace"
MAX_ROWS = 1000
KNOWN_LANES = 100_000
NO_LANE = 0
DEFAULT_PRIORITY = 5
A_DAY = timedelta(days=1)


Put = Callable[[Sequence[NewJob]], Awaitable[list[Stored]]]


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
    """The Intake on Postgres; unique jobs go apart. `run()` belongs under a Supervisor."""

    def __init__(self, database: postgres.Database, seals: Seals = NO_SEALS) -> None:
        self._database = database
        self._seals = seals
        self._sealed: frozenset[str] = frozenset()
        self._lanes: dict[tuple[str, str], int] = {}
        self._waiting: list[_Call] = []
        self._arrived = asyncio.Event()

    async def put(self, jobs: Sequence[NewJob]) -> list[Stored]:
        return await _apart(jobs, plain=self._gather, unique=self._put_unique)

    async def _gather(self, jobs: Sequence[NewJob]) -> list[Stored]:
        call = _Call(jobs)
        self._waiting.append(call)
        self._arrived.set()
        return await call.done

    async def _put_unique(self, jobs: Sequence[NewJob]) -> list[Stored]:
        """A statement of the call's own: others wait for its keys."""
        try:
            async with self._database.connection() as connection:
                stored = await self.put_within(connection, jobs)
        except asyncpg.PostgresError as error:
            if len(jobs) == 1:
                raise _not_storable(error) from error
            return [one for job in jobs for one in await self._put_unique([job])]
        await self.wake(jobs)
        return stored

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
        if connection.is_in_transaction():
            # A refusal would undo all that the caller has done.
            await self._learn_sealed(connection)
            return await self._put(connection, jobs)
        try:
            return await self._put(connection, jobs)
        except asyncpg.PostgresError as error:
            if error.sqlstate != UNSEALED:
                raise
        await self._learn_sealed(connection)
        return await self._put(connection, jobs)

    async def _put(self, connection: postgres.Connection, jobs: Sequence[NewJob]) -> list[Stored]:
        lanes = await self._lanes_of(connection, jobs)

        async def plain(some: Sequence[NewJob]) -> list[Stored]:
            rows = await connection.fetch(SQL.enqueue, *_columns(some, self._args(some), lanes))
            return _in_order(some, rows)

        async def unique(some: Sequence[NewJob]) -> list[Stored]:
            args = self._args(some)
            columns = [*_columns(some, args, lanes), *_unique_columns(some)]
            async with connection.transaction() if self._sealed else nullcontext():
                rows = await connection.fetch(SQL.enqueue_unique, *columns)
                stored = _in_order(some, rows)
                await self._reseal(connection, some, args, stored)
            return stored

        return await _apart(jobs, plain=plain, unique=unique)

    async def _learn_sealed(self, connection: postgres.Connection) -> None:
        self._sealed = frozenset(row["name"] for row in await connection.fetch(SQL.sealed))

    def _args(self, jobs: Sequence[NewJob]) -> list[Any]:
        if not self._sealed:
            return [job.args for job in jobs]
        return [
            self._seals.seal(job.args, job.id, ARGS) if self._is_sealed(job) else job.args
            for job in jobs
        ]

    def _is_sealed(self, job: NewJob) -> bool:
        """What may replace the args of a job in another queue is sealed as well."""
        if job.unique is not None and job.unique.on_conflict == REPLACE and self._sealed:
            return self._seals.can_seal
        return job.queue in self._sealed

    async def _reseal(
        self,
        connection: postgres.Connection,
        jobs: Sequence[NewJob],
        args: Sequence[Any],
        stored: Sequence[Stored],
    ) -> None:
        changed = [
            (one.id, given, self._seals.seal(job.args, one.id, ARGS))
            for job, given, one in zip(jobs, args, stored, strict=True)
            if one.verdict is Verdict.MERGED and isinstance(given, str)
        ]
        if changed:
            await connection.execute(SQL.reseal, *map(list, zip(*changed, strict=True)))

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
            _fail(call, _not_storable(error))

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


async def _apart(jobs: Sequence[NewJob], *, plain: Put, unique: Put) -> list[Stored]:
    """Plain jobs one way, unique ones another; a verdict for each, in order."""
    apart = [job for job in jobs if job.unique is not None]
    if not apart:
        return await plain(jobs)
    rest = [job for job in jobs if job.unique is None]
    first = iter(await plain(rest) if rest else ())
    second = iter(await unique(apart))
    return [next(first if job.unique is None else second) for job in jobs]


def _columns(
    jobs: Sequence[NewJob], args: Sequence[Any], lanes: Mapping[tuple[str, str], int]
) -> list[Any]:
    """One array per column; jobs of unknown queues have no lane and are not stored."""
    told = [job.id for job in jobs if not job.is_secret]
    return [
        [job.id for job in jobs],
        [lanes.get(_lane(job), NO_LANE) for job in jobs],
        [job.kind for job in jobs],
        [job.fingerprint for job in jobs],
        args,
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


def _unique_columns(jobs: Sequence[NewJob]) -> list[Any]:
    wanted = [job.unique for job in jobs if job.unique is not None]
    return [
        [one.key for one in wanted],
        [one.window_s for one in wanted],
        [bool(one.states) for one in wanted],
        [text_array(one.states) for one in wanted],
        [one.on_conflict for one in wanted],
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


def _not_storable(error: asyncpg.PostgresError) -> errors.Invalid:
    return errors.Invalid(f"this cannot be stored: {type(error).__name__}")


def _fail(call: _Call, fault: errors.Fault) -> None:
    if not call.done.done():
        call.done.set_exception(fault)
