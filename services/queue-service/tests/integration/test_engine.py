"""Claim, settle and rescue on a real Postgres: fences, lanes, caps, wake-ups, history."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest_asyncio

import queue_service.store
from chassis import postgres
from chassis.kernel import ids
from chassis.kernel.clock import SystemClock
from queue_service.core.attempts import Claimed, Settlement, Status, Verb
from queue_service.core.jobs import NewJob, Verdict
from queue_service.core.leasing import Claim
from queue_service.loops.reconciler import Reconciler
from queue_service.loops.rescuer import Rescuer
from queue_service.store.engine import SETTINGS, EngineStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.pulse import PostgresPulse
from testkit.databases import Databases

MIGRATIONS = Path(queue_service.store.__file__).parent / "migrations"
RETRY = {"base_s": 5.0, "factor": 2.0, "max_s": 3600.0, "jitter": 0.5}


@dataclass
class Engine:
    dsn: str
    database: postgres.Database
    store: EngineStore
    writer: EnqueueWriter

    async def enqueue(self, *jobs: NewJob) -> list[UUID]:
        stored = await self.writer.put_all(jobs)
        assert [one.verdict for one in stored] == [Verdict.CREATED] * len(jobs)
        return [one.id for one in stored]

    async def worker(self) -> UUID:
        worker, pulse = ids.new_id(), PostgresPulse(self.dsn)
        await pulse.register(worker, "test")
        await pulse.close()
        return worker

    async def claim(self, worker: UUID, want: int = 100, queue: str = "work") -> list[Claimed]:
        """Until nothing more comes, as a producer does it."""
        found: list[Claimed] = []
        while len(found) < want:
            _, jobs, dry = await self.store.settle_and_claim(
                [], Claim(queue, worker, want - len(found), 64)
            )
            found += jobs
            if not await self.store.wake(dry) and not jobs:
                break
        return found

    async def state(self, job_id: UUID) -> tuple[str, int] | None:
        row = await self.database.fetchrow(
            "select state, attempt from queue_job where id = $1 union all "
            "select state, attempt from queue_job_history where id = $1",
            job_id,
        )
        return None if row is None else (row["state"], row["attempt"])


@pytest_asyncio.fixture
async def engine(make_database: Databases) -> AsyncIterator[Engine]:
    dsn = await make_database(MIGRATIONS)
    database = await postgres.open_database(dsn, size=8, application="test", settings=SETTINGS)
    await database.execute(
        "insert into queue (name, served_by, concurrency, max_attempts, timeout_s, retry) "
        "values ('work', 'worker', 10, 5, 30, $1)",
        RETRY,
    )
    yield Engine(dsn, database, EngineStore(database), EnqueueWriter(database))
    await database.close()


def job(shop: str | None = "a.example", **more: Any) -> NewJob:
    return NewJob(
        id=ids.new_id(), kind="test", queue="work", args={"n": 1}, fingerprint="f", shop=shop,
        **more,
    )  # fmt: skip


def done(claimed: Claimed, verb: Verb = Verb.COMPLETED, **more: Any) -> Settlement:
    return Settlement(id=claimed.id, lease_no=claimed.lease_no, verb=verb, **more)


async def test_a_job_goes_from_ready_to_history_with_its_result(engine: Engine) -> None:
    (job_id,) = await engine.enqueue(job())
    (claimed,) = await engine.claim(await engine.worker())
    assert (claimed.id, claimed.attempt, claimed.lease_no) == (job_id, 1, 1)
    assert claimed.args == {"n": 1}
    assert claimed.retry == RETRY
    assert await engine.state(job_id) == ("running", 1)
    assert await engine.store.settle([done(claimed, result={"ok": True})]) == [Status.SETTLED]
    assert await engine.state(job_id) == ("completed", 1)
    result = await engine.database.fetchval("select result from queue_job_done")
    assert result == {"ok": True}
    assert await engine.database.fetchval("select count(*) from queue_job") == 0


async def test_a_settle_said_twice_is_a_duplicate_and_under_an_old_lease_it_is_lost(
    engine: Engine,
) -> None:
    (job_id,) = await engine.enqueue(job())
    worker = await engine.worker()
    (first,) = await engine.claim(worker)
    await engine.store.settle([done(first, Verb.RELEASE)])
    (second,) = await engine.claim(worker)
    assert (second.attempt, second.lease_no) == (1, 2)
    assert await engine.store.settle([done(first)]) == [Status.LOST]
    assert await engine.state(job_id) == ("running", 1)
    assert await engine.store.settle([done(second)]) == [Status.SETTLED]
    assert await engine.store.settle([done(second), done(first)]) == [
        Status.DUPLICATE,
        Status.LOST,
    ]


async def test_verbs_spend_the_attempt_or_give_it_back(engine: Engine) -> None:
    worker = await engine.worker()
    expected = {
        Verb.RETRY: ("retrying", 1),
        Verb.SNOOZE: ("scheduled", 0),
        Verb.RELEASE: ("ready", 0),
        Verb.LOST: ("ready", 1),
        Verb.FAILED: ("failed", 1),
        Verb.CANCELLED: ("cancelled", 1),
    }
    await engine.enqueue(*(job() for _ in expected))
    claimed = await engine.claim(worker, len(expected))
    settlements = [
        done(one, verb, delay_s=60.0, error={"type": verb.value})
        for one, verb in zip(claimed, expected, strict=True)
    ]
    assert await engine.store.settle(settlements) == [Status.SETTLED] * len(expected)
    for one, state in zip(claimed, expected.values(), strict=True):
        assert await engine.state(one.id) == state


async def test_a_retry_is_staged_when_it_is_due_and_keeps_its_errors(engine: Engine) -> None:
    (job_id,) = await engine.enqueue(job())
    worker = await engine.worker()
    (first,) = await engine.claim(worker)
    await engine.store.settle([done(first, Verb.RETRY, error={"type": "one"})])
    assert await engine.store.stage(100) == 1
    (second,) = await engine.claim(worker)
    assert (second.id, second.attempt) == (job_id, 2)
    await engine.store.settle([done(second, Verb.FAILED, error={"type": "two"})])
    errors = await engine.database.fetchval("select errors from queue_job_failed")
    assert [error["type"] for error in errors] == ["one", "two"]


async def test_what_is_not_due_is_neither_staged_nor_claimed(engine: Engine) -> None:
    later = SystemClock().now().replace(year=2100)
    (job_id,) = await engine.enqueue(job(run_at=later))
    assert await engine.store.stage(100) == 0
    assert await engine.claim(await engine.worker()) == []
    assert await engine.state(job_id) == ("scheduled", 0)


async def test_a_campaign_does_not_keep_another_shop_waiting(engine: Engine) -> None:
    """Start-time fair queueing at lane grain: after the first claim the served lane is ahead."""
    await engine.enqueue(*(job("campaign.example") for _ in range(200)))
    worker = await engine.worker()
    await engine.claim(worker, 20)
    (single,) = await engine.enqueue(job("single.example"))
    claimed = await engine.claim(worker, 10)
    assert single in {one.id for one in claimed}


async def test_lanes_share_by_weight(engine: Engine) -> None:
    await engine.enqueue(*(job("heavy.example") for _ in range(200)))
    await engine.enqueue(*(job("light.example") for _ in range(200)))
    await engine.database.execute("update lane set weight = 3 where shop = 'heavy.example'")
    worker, seen = await engine.worker(), Counter[str | None]()
    for _ in range(100):
        _, jobs, _ = await engine.store.settle_and_claim([], Claim("work", worker, 1, 1))
        seen.update(one.shop for one in jobs)
    assert 74 <= seen["heavy.example"] <= 76


async def test_priority_goes_first_within_a_shop(engine: Engine) -> None:
    wanted = {priority: job(priority=priority) for priority in (5, 9, 0)}
    await engine.enqueue(*wanted.values())
    claimed = await engine.claim(await engine.worker(), 3)
    assert [one.id for one in claimed] == [wanted[priority].id for priority in (0, 5, 9)]


async def test_many_claimers_never_get_the_same_job(engine: Engine) -> None:
    wanted = await engine.enqueue(*(job(f"shop{n % 7}.example") for n in range(300)))
    workers = [await engine.worker() for _ in range(6)]

    async def work(worker: UUID) -> list[Claimed]:
        found: list[Claimed] = []
        while len(found) < 300 and (more := await engine.claim(worker, 10)):
            found += more
            statuses = await engine.store.settle([done(one) for one in more])
            assert set(statuses) == {Status.SETTLED}
        return found

    found = [one.id for each in await asyncio.gather(*map(work, workers)) for one in each]
    assert sorted(found) == sorted(wanted)
    left = await engine.database.fetchval("select count(*) from queue_job")
    assert left == 0


async def test_a_cap_is_never_passed_and_room_is_given_back(engine: Engine) -> None:
    await engine.enqueue(*(job() for _ in range(30)))
    await engine.database.execute("update lane set cap = 3")
    workers = [await engine.worker() for _ in range(4)]
    claimed = [
        one
        for found in await asyncio.gather(*(engine.claim(worker, 10) for worker in workers))
        for one in found
    ]
    assert len(claimed) == 3
    await engine.store.settle([done(claimed[0]), done(claimed[1], Verb.RETRY, delay_s=60.0)])
    assert len(await engine.claim(workers[0], 10)) == 2
    assert await engine.database.fetchval("select running from lane") == 3


async def test_a_global_limit_is_never_passed(engine: Engine) -> None:
    await engine.enqueue(*(job(f"shop{n}.example") for n in range(20)))
    await engine.database.execute("update queue set global_limit = 4")
    workers = [await engine.worker() for _ in range(4)]
    found = await asyncio.gather(*(engine.claim(worker, 10) for worker in workers))
    claimed = [one for each in found for one in each]
    assert len(claimed) == 4
    await engine.store.settle([done(one) for one in claimed[:3]])
    assert len(await engine.claim(workers[0], 10)) == 3


async def test_a_paused_queue_gives_nothing(engine: Engine) -> None:
    await engine.enqueue(job())
    worker = await engine.worker()
    await engine.database.execute("update queue set paused = true")
    assert await engine.claim(worker) == []
    await engine.database.execute("update queue set paused = false")
    assert len(await engine.claim(worker)) == 1


async def test_a_worker_that_is_not_registered_gets_nothing(engine: Engine) -> None:
    await engine.enqueue(job())
    assert await engine.claim(ids.new_id()) == []


async def test_no_wakeup_is_lost_between_enqueuers_and_claimers(engine: Engine) -> None:
    """Lanes run dry all the time here; every job must still be found, without a poll."""
    worker, total, found = await engine.worker(), 400, 0
    writing = asyncio.create_task(engine.writer.run())

    async def enqueue(n: int) -> None:
        await engine.writer.put([job(f"shop{n % 3}.example")])

    async def consume() -> None:
        nonlocal found
        while found < total:
            more = await engine.claim(worker, 5)
            found += len(more)
            await engine.store.settle([done(one) for one in more])

    async with asyncio.timeout(30):
        consuming = asyncio.create_task(consume())
        for start in range(0, total, 8):
            await asyncio.gather(*(enqueue(n) for n in range(start, start + 8)))
        await consuming
    writing.cancel()


async def test_a_lane_that_sleeps_over_ready_jobs_is_found(engine: Engine) -> None:
    await engine.enqueue(job())
    await engine.database.execute("update lane set active = false")
    worker = await engine.worker()
    assert await engine.claim(worker) == []
    await Reconciler(engine.store).run_once()
    assert len(await engine.claim(worker)) == 1


async def test_jobs_of_a_dead_worker_go_back_and_its_late_settle_is_lost(engine: Engine) -> None:
    (job_id,) = await engine.enqueue(job())
    dead = await engine.worker()
    (claimed,) = await engine.claim(dead)
    rescuer = Rescuer(engine.store, clock=SystemClock(), dead_after_s=15)
    await rescuer.run_once()
    assert await engine.state(job_id) == ("running", 1)
    await engine.database.execute("update worker set beat_at = beat_at - interval '16 s'")
    await rescuer.run_once()
    assert await engine.state(job_id) == ("ready", 1)
    assert await engine.store.settle([done(claimed)]) == [Status.LOST]
    pulse = PostgresPulse(engine.dsn)
    assert await pulse.beat(dead) is None
    await pulse.close()
    (again,) = await engine.claim(await engine.worker())
    assert (again.id, again.attempt, again.lease_no) == (job_id, 2, 2)


async def test_a_job_that_kills_three_workers_ends_as_poison(engine: Engine) -> None:
    (job_id,) = await engine.enqueue(job())
    rescuer = Rescuer(engine.store, clock=SystemClock())
    for _ in range(3):
        worker = await engine.worker()
        assert len(await engine.claim(worker)) == 1
        await engine.database.execute("delete from worker")
        await rescuer.run_once()
    assert await engine.state(job_id) == ("failed", 3)
    errors = await engine.database.fetchval("select errors from queue_job_failed")
    assert errors[-1]["type"] == "poison"


async def test_a_mark_is_left_once_and_only_under_the_lease(engine: Engine) -> None:
    (job_id,) = await engine.enqueue(job())
    worker = await engine.worker()
    (first,) = await engine.claim(worker)
    assert await engine.store.mark(job_id, 1, "send") == 1
    assert await engine.store.mark(job_id, 1, "send") == 1
    await engine.store.settle([done(first, Verb.LOST)])
    assert await engine.store.mark(job_id, 1, "send") is None
    (second,) = await engine.claim(worker)
    assert await engine.store.mark(job_id, second.lease_no, "send") == 1
    await engine.store.settle([done(second, Verb.SNOOZE, unmark=True)])
    await engine.store.stage(10)
    (third,) = await engine.claim(worker)
    assert await engine.store.mark(job_id, third.lease_no, "send") == 3
    await engine.store.settle([done(third, unmark=True)])
    assert await engine.database.fetchval("select count(*) from job_mark") == 0


async def test_cancelling_ends_what_waits_and_tells_what_runs(engine: Engine) -> None:
    await engine.enqueue(job(), job())
    worker = await engine.worker()
    (running,) = await engine.claim(worker, 1)
    everything = await engine.database.fetch("select id from queue_job")
    rows = await engine.database.fetch(
        "select o_id, o_state from cancel_jobs($1)", [row["id"] for row in everything]
    )
    assert Counter(row["o_state"] for row in rows) == {"running": 1, "cancelled": 1}
    pulse = PostgresPulse(engine.dsn)
    held = await pulse.beat(worker)
    await pulse.close()
    assert held is not None
    assert [(one.id, one.cancel_requested) for one in held] == [(running.id, True)]


async def test_settling_counts_for_the_batch(engine: Engine) -> None:
    batch = ids.new_id()
    await engine.enqueue(*(job(batch_id=batch) for _ in range(3)))
    one, two, three = await engine.claim(await engine.worker(), 3)
    await engine.store.settle([done(one), done(two, Verb.FAILED)])
    await engine.store.settle([done(three)])
    row = await engine.database.fetchrow(
        "select sum(completed) as c, sum(failed) as f from batch_delta where batch_id = $1", batch
    )
    assert row is not None
    assert (row["c"], row["f"]) == (2, 1)


async def test_a_day_that_is_missing_overflows_and_is_filled_later(engine: Engine) -> None:
    await engine.database.execute("select drop_history_days('queue_job_done', current_date + 9)")
    (job_id,) = await engine.enqueue(job())
    (claimed,) = await engine.claim(await engine.worker())
    assert await engine.store.settle([done(claimed)]) == [Status.SETTLED]
    assert await engine.database.fetchval("select count(*) from queue_job_done_overflow") == 1
    await engine.database.execute("select keep_history_day('queue_job_done', current_date)")
    assert await engine.database.fetchval("select count(*) from queue_job_done_overflow") == 0
    assert await engine.state(job_id) == ("completed", 1)
