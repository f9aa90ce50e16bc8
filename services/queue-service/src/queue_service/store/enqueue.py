"""New jobs into Postgres, many callers per statement.

While statements are in flight the next gathers; each caller is answered after the commit that
holds its jobs. Two are in flight at most, so that the database works while this process does. A
statement that fails for what is in it is repeated caller by caller, so that a bad job harms itself
alone.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from chassis import logs, postgres, sql
from chassis.kernel import errors
from queue_service.core.jobs import NewJob, Stored, Verdict
from queue_service.store import columns
from queue_service.store.columns import Lane, Lanes, lane_of
from queue_service.store.sealing import ARGS, Seals
from queue_service.store.sealing import NONE as NO_SEALS

SQL = sql.queries(__file__)
log = logs.get(__name__)

# What the database says of plain args in a queue that is sealed.
UNSEALED = "MS001"
REPLACE = "replace"
MAX_ROWS = 1000
KNOWN_LANES = 100_000
IN_FLIGHT = 2
# So few are not worth a second statement.
FEW = 16
# So many cannot all find a worker that is idle.
MAX_HANDED = 20
# Probes of many statements are one.
PROBE_EVERY_S = 0.005


@dataclass(slots=True)
class _Call:
    jobs: Sequence[NewJob]
    # The JSON of their args; what has none is its caller's trouble alone.
    args: Sequence[str]
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
        self._lanes: dict[Lane, int] = {}
        self._waiting: list[_Call] = []
        self._arrived = asyncio.Event()
        self._idle = 0
        self._unprobed: set[int] = set()
        self._stored = asyncio.Event()

    async def put(self, jobs: Sequence[NewJob]) -> list[Stored]:
        apart = [job for job in jobs if job.unique is not None]
        if not apart:
            return await self._gather(jobs)
        rest = [job for job in jobs if job.unique is None]
        plain = await self._gather(rest) if rest else []
        return _merged(jobs, plain, await self._put_unique(apart))

    async def _gather(self, jobs: Sequence[NewJob]) -> list[Stored]:
        call = _Call(jobs, _texts(jobs))
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
        return await self._put(connection, jobs, _texts(jobs))

    async def _put(
        self,
        connection: postgres.Connection,
        jobs: Sequence[NewJob],
        texts: Sequence[str],
        *,
        may_hand: bool = False,
    ) -> list[Stored]:
        if connection.is_in_transaction():
            # A refusal would undo all that the caller has done.
            await self._learn_sealed(connection)
            return await self._store(connection, jobs, texts, may_hand)
        try:
            return await self._store(connection, jobs, texts, may_hand)
        except asyncpg.PostgresError as error:
            if error.sqlstate != UNSEALED:
                raise
        await self._learn_sealed(connection)
        return await self._store(connection, jobs, texts, may_hand)

    async def _store(
        self,
        connection: postgres.Connection,
        jobs: Sequence[NewJob],
        texts: Sequence[str],
        may_hand: bool,
    ) -> list[Stored]:
        if not jobs:
            return []
        lanes = await self._lanes_of(connection, jobs)
        apart = [job for job in jobs if job.unique is not None]
        if not apart:
            return await self._plain(connection, jobs, texts, lanes, may_hand)
        places = [place for place, job in enumerate(jobs) if job.unique is None]
        rest, said = [jobs[place] for place in places], [texts[place] for place in places]
        plain = await self._plain(connection, rest, said, lanes, False) if rest else []
        return _merged(jobs, plain, await self._unique(connection, apart, lanes))

    async def _plain(
        self,
        connection: postgres.Connection,
        jobs: Sequence[NewJob],
        texts: Sequence[str],
        lanes: Lanes,
        may_hand: bool,
    ) -> list[Stored]:
        order = columns.lock_order(jobs)
        if order is not None:
            jobs, texts = [jobs[n] for n in order], [texts[n] for n in order]
        row = await connection.fetchrow(
            SQL.store,
            *columns.columns(jobs, self._sealed_texts(jobs, texts), lanes),
            may_hand and len(jobs) <= MAX_HANDED,
        )
        assert row is not None
        stored = columns.verdicts(jobs, row)
        if may_hand and not stored[0].is_handed:
            self._unprobed.update(lanes.values())
            self._stored.set()
        return stored if order is None else columns.back_in_place(stored, order)

    async def _unique(
        self, connection: postgres.Connection, jobs: Sequence[NewJob], lanes: Lanes
    ) -> list[Stored]:
        args = [self._sealed_args(job) if self._is_sealed(job) else job.args for job in jobs]
        async with connection.transaction() if self._sealed else nullcontext():
            rows = await connection.fetch(
                SQL.enqueue_unique,
                *columns.columns(jobs, args, lanes),
                *columns.unique_columns(jobs),
            )
            stored = columns.in_order(jobs, rows)
            await self._reseal(connection, jobs, args, stored)
        return stored

    async def _learn_sealed(self, connection: postgres.Connection) -> None:
        self._sealed = frozenset(row["name"] for row in await connection.fetch(SQL.sealed))

    def _sealed_texts(self, jobs: Sequence[NewJob], texts: Sequence[str]) -> Sequence[str]:
        if not self._sealed:
            return texts
        return [
            postgres.dumps(self._sealed_args(job)) if self._is_sealed(job) else text
            for job, text in zip(jobs, texts, strict=True)
        ]

    def _sealed_args(self, job: NewJob) -> str:
        return self._seals.seal(job.args, job.id, ARGS)

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
        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(self._write())
            group.create_task(self._probe())

    async def _write(self) -> None:
        while True:
            self._idle += 1
            await self._arrived.wait()
            self._idle -= 1
            await self._write_gathered()

    async def _probe(self) -> None:
        """As `wake`, out of the way of what comes next."""
        while True:
            await self._stored.wait()
            try:
                await self._wake_unprobed()
            except errors.Unavailable:
                log.info("wake_failed")  # the reconciler finds them
            await asyncio.sleep(PROBE_EVERY_S)

    async def run_once(self) -> None:
        """What has gathered is stored."""
        await self._write_gathered()
        await self._wake_unprobed()

    async def _wake_unprobed(self) -> None:
        lanes, self._unprobed = sorted(self._unprobed), set()
        self._stored.clear()
        if lanes:
            await self._database.fetchval(SQL.wake, lanes)

    async def _write_gathered(self) -> None:
        """A statement after the other on one connection, until nothing waits."""
        calls = self._next()
        if not calls:
            return
        try:
            async with self._database.connection() as connection:
                while calls:
                    await self._write_down(connection, calls)
                    calls = self._next()
        except asyncpg.PostgresError:
            for call in calls:
                await self._write_alone(call)
        except errors.Fault as fault:
            for call in calls:
                _fail(call, fault)
        except BaseException:
            for call in calls:
                call.done.cancel()
            raise

    def _next(self) -> list[_Call]:
        """What fits into one statement; half of it if another writer has nothing to do."""
        most = len(self._waiting)
        if self._idle and most > FEW:
            most = (most + 1) // 2
        size, count = 0, 0
        for call in self._waiting[:most]:
            if count and size + len(call.jobs) > MAX_ROWS:
                break
            size, count = size + len(call.jobs), count + 1
        calls, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._arrived.clear()
        return calls

    async def _write_alone(self, call: _Call) -> None:
        try:
            async with self._database.connection() as connection:
                await self._write_down(connection, [call])
        except errors.Fault as fault:
            _fail(call, fault)
        except asyncpg.PostgresError as error:
            _fail(call, _not_storable(error))

    async def _write_down(self, connection: postgres.Connection, calls: Sequence[_Call]) -> None:
        # Lanes may stay without their jobs, so one statement, a transaction of its own, is enough.
        if len(calls) == 1:
            jobs, texts = calls[0].jobs, calls[0].args
        else:
            jobs = [job for call in calls for job in call.jobs]
            texts = [text for call in calls for text in call.args]
        stored = await self._put(connection, jobs, texts, may_hand=True)
        at = 0
        for call in calls:
            if not call.done.done():
                call.done.set_result(stored[at : at + len(call.jobs)])
            at += len(call.jobs)

    async def _lanes_of(self, connection: postgres.Connection, jobs: Iterable[NewJob]) -> Lanes:
        """Committed lanes alone are remembered: those of a transaction may be undone with it."""
        wanted = set(map(lane_of, jobs))
        found = {lane: self._lanes[lane] for lane in wanted if lane in self._lanes}
        if len(found) == len(wanted):
            return found
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


def _texts(jobs: Iterable[NewJob]) -> list[str]:
    try:
        return [postgres.dumps(job.args) for job in jobs]
    except TypeError as error:
        raise errors.Invalid(f"args that JSON cannot hold: {error}") from error


def _merged(
    jobs: Iterable[NewJob], plain: Iterable[Stored], unique: Iterable[Stored]
) -> list[Stored]:
    first, second = iter(plain), iter(unique)
    return [next(first if job.unique is None else second) for job in jobs]


def _not_storable(error: asyncpg.PostgresError) -> errors.Invalid:
    return errors.Invalid(f"this cannot be stored: {type(error).__name__}")


def _fail(call: _Call, fault: errors.Fault) -> None:
    if not call.done.done():
        call.done.set_exception(fault)
