"""Loops that were frozen in the middle and wake when others have done their work."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from chassis import lifecycle, postgres
from chassis.kernel import ids
from chassis.kernel.clock import SystemClock
from chassis.leader import Leader
from queue_service.core.jobs import NewJob
from queue_service.core.queues import fresh
from queue_service.loops.batches import BatchFinisher, BatchSweeper
from queue_service.loops.chores import Chores
from queue_service.loops.lease_reaper import LeaseReaper
from queue_service.loops.reconciler import Reconciler
from queue_service.loops.rescuer import Rescuer
from queue_service.loops.stager import Stager
from queue_service.store.batch_chores import PostgresBatchChores
from queue_service.store.engine import EngineStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.leases import PostgresLeases
from queue_service.store.queues import PostgresQueues

CLOCK = SystemClock()


class Freezing:
    """A store whose `method` has been answered, but whose caller does not hear it until `thaw`."""

    def __init__(self, store: Any, method: str) -> None:
        self._store, self._method = store, method
        self.frozen, self.thaw = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._slow(found) if name == self._method else found

    def _slow(self, method: Any) -> Any:
        async def answer(*args: Any, **named: Any) -> Any:
            answered = await method(*args, **named)
            self.frozen.set()
            await self.thaw.wait()
            return answered

        return answer


async def freeze(store: Freezing, loop: lifecycle.Loop) -> asyncio.Task[bool]:
    turn = asyncio.create_task(loop.run_once())
    await asyncio.wait_for(store.frozen.wait(), 10)
    return turn


async def wake(store: Freezing, turn: asyncio.Task[bool]) -> None:
    store.thaw.set()
    await asyncio.wait_for(turn, 10)


@pytest.fixture
def engine(database: postgres.Database) -> EngineStore:
    return EngineStore(database)


async def running(
    database: postgres.Database, writer: EnqueueWriter, *, worker: UUID | None
) -> UUID:
    """A job under lease 1 of a worker that is dead, or under one that has run out."""
    await PostgresQueues(database).create(fresh("work"))
    job = NewJob(id=ids.new_id(), kind="k", queue="work", args={}, fingerprint="f", shop="a")
    await writer.put_all([job])
    await database.execute(
        "update queue_job set state = 'running', lease_no = 1, attempt = 1, worker = $2, "
        "lease_until = case when $2::uuid is null then clock_timestamp() - interval '1 s' end "
        "where id = $1", job.id, worker,
    )  # fmt: skip
    return job.id


async def run_again(database: postgres.Database, job_id: UUID) -> None:
    """As another worker, under the next lease."""
    worker = ids.new_id()
    await database.execute("insert into worker (id, name) values ($1, 'w')", worker)
    taken = await database.execute(
        "update queue_job set state = 'running', lease_no = 2, attempt = 2, worker = $2 "
        "where id = $1 and state = 'ready'", job_id, worker,
    )  # fmt: skip
    assert taken == "UPDATE 1"


async def row(database: postgres.Database, job_id: UUID) -> Any:
    columns = "state, lease_no, attempt, kills, jsonb_array_length(errors)"
    return await database.fetchrow(f"select {columns} from queue_job where id = $1", job_id)


async def test_a_rescuer_that_wakes_late_takes_no_job_from_its_new_worker(
    database: postgres.Database, writer: EnqueueWriter, engine: EngineStore
) -> None:
    job_id = await running(database, writer, worker=ids.new_id())
    store = Freezing(engine, "orphans")
    turn = await freeze(store, Rescuer(store, clock=CLOCK))
    await Rescuer(engine, clock=CLOCK).run_once()
    await run_again(database, job_id)
    await wake(store, turn)
    assert await row(database, job_id) == ("running", 2, 2, 1, 1)


async def test_a_reaper_that_wakes_late_ends_no_lease_that_came_after(
    database: postgres.Database, writer: EnqueueWriter, engine: EngineStore
) -> None:
    job_id = await running(database, writer, worker=None)
    leases = PostgresLeases(database)
    store = Freezing(leases, "expired")
    turn = await freeze(store, LeaseReaper(store, engine, clock=CLOCK))
    await LeaseReaper(leases, engine, clock=CLOCK).run_once()
    await run_again(database, job_id)
    await wake(store, turn)
    assert await row(database, job_id) == ("running", 2, 2, 0, 1)


async def test_a_finisher_that_wakes_late_ends_no_batch_again(
    database: postgres.Database, writer: EnqueueWriter
) -> None:
    batch_id = ids.new_id()
    await database.execute(
        "insert into batch (id, name, queue, kind, defaults, fingerprint, paused, closed_at) "
        "values ($1, 'b', 'work', 'k', '{}', 'f', false, clock_timestamp())", batch_id,
    )  # fmt: skip
    chores = PostgresBatchChores(database=database, writer=writer)
    store = Freezing(chores, "ended")
    turn = await freeze(store, BatchFinisher(store))
    await BatchFinisher(chores).run_once()
    finished = await database.fetchval("select finished_at from batch")
    assert finished is not None
    await wake(store, turn)
    assert await database.fetchval("select finished_at from batch") == finished
    assert await database.fetchval("select count(*) from outbox") == 1


async def test_a_sweeper_that_wakes_late_counts_no_cancelled_job_again(
    database: postgres.Database, writer: EnqueueWriter
) -> None:
    batch_id = ids.new_id()
    await running(database, writer, worker=ids.new_id())
    await database.execute(
        "insert into batch (id, name, queue, kind, defaults, fingerprint, paused, cancelled_at) "
        "values ($1, 'b', 'work', 'k', '{}', 'f', false, clock_timestamp())", batch_id,
    )  # fmt: skip
    await database.execute("update queue_job set state = 'held', batch_id = $1", batch_id)
    chores = PostgresBatchChores(database=database, writer=writer)
    store = Freezing(chores, "stopped")
    turn = await freeze(store, BatchSweeper(store))
    await BatchSweeper(chores).run_once()
    await wake(store, turn)
    ended = "select count(*), (select sum(cancelled) from batch_delta) from queue_job_done"
    assert await database.fetchrow(ended) == (1, 1)


async def test_two_stagers_and_two_reconcilers_do_what_one_does(
    database: postgres.Database, writer: EnqueueWriter, engine: EngineStore
) -> None:
    job_id = await running(database, writer, worker=ids.new_id())
    await database.execute(
        "update queue_job set state = 'retrying', worker = null, run_at = clock_timestamp()"
    )
    seq = "select seq from queue_job where id = $1"
    before = await database.fetchval(seq, job_id)
    await asyncio.gather(*(Stager(engine).run_once() for _ in range(3)))
    assert await row(database, job_id) == ("ready", 1, 1, 0, 0)
    assert await database.fetchval(seq, job_id) > before
    await database.execute("update lane set active = false, vtime = 5")
    await asyncio.gather(*(Reconciler(engine).run_once() for _ in range(3)))
    assert await database.fetchrow("select active, vtime from lane") == (True, 5)


class Counting(lifecycle.Loop):
    name = "counting"
    interval_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    async def run_once(self) -> bool:
        self.turns += 1
        return False


async def test_a_leader_that_wakes_late_follows_and_leads_again_when_the_other_is_gone(
    database: postgres.Database,
) -> None:
    work = Counting(), Counting()
    first, second = (Chores(Leader(database, "chores"), [loop]) for loop in work)
    await first.run_once()
    await second.run_once()
    assert (work[0].turns, work[1].turns) == (1, 0)
    for frozen, other in ((first, second), (second, first)):
        # Frozen for longer than its lease.
        await database.execute("update leader set until = clock_timestamp() - interval '1 s'")
        turns = [loop.turns for loop in work]
        await other.run_once()
        await frozen.run_once()
        assert sum(loop.turns for loop in work) == sum(turns) + 1
