"""Lanes on a real Postgres, interleaving by interleaving: what would lose a job, pass a cap or keep
a shop waiting if a rule of the claim were missing."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

import queue_service.store
from chassis import postgres
from chassis.kernel import ids
from queue_service.core import lanes as core_lanes
from queue_service.core.attempts import Claimed, Settlement, Status, Verb
from queue_service.core.lanes import HEAD_AFTER, MANY_LANES, MIN_LANES
from queue_service.core.leasing import Claim
from queue_service.store.engine import SETTINGS, SQL, EngineStore
from queue_service.store.pulse import PostgresPulse
from queue_service.store.queues import PostgresQueues
from testkit.databases import Databases
from testkit.signals import eventually

MIGRATIONS = Path(queue_service.store.__file__).parent / "migrations"
QUEUE = "work"
LANE = """
insert into lane (queue, shop, weight, cap, active) values ($1, $2, $3, $4, true)
on conflict (queue, shop) do update set active = true returning id
"""
# Into lanes as they are: what an enqueuer does, but for waking them.
ADD = """
insert into queue_job (
    id, lane, queue, kind, shop, state, priority, max_attempts, run_at, created_at, fingerprint,
    batch_id, args
)
select gen_random_uuid(), l.id, l.queue, 'test', l.shop, 'ready', $3, 5, now(), now(), 'f', $4, '{}'
from lane l, generate_series(1, $2) where l.id = any($1::bigint[])
"""
NEW_QUEUE = """
insert into queue (name, served_by, concurrency, max_attempts, timeout_s, retry)
values ($1, 'worker', 10, 5, 30, '{}')
"""
WAITS = "select exists (select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock')"


@dataclass
class Lanes:
    database: postgres.Database
    store: EngineStore
    worker: UUID

    async def fill(
        self,
        shop: str,
        jobs: int,
        *,
        weight: float = 1.0,
        cap: int | None = None,
        priority: int = 5,
        batch: UUID | None = None,
    ) -> None:
        lane = await self.database.fetchval(LANE, QUEUE, shop, weight, cap)
        await self.database.execute(ADD, [lane], jobs, priority, batch)

    async def fill_many(self, many: int, jobs: int) -> None:
        await self.database.execute(
            "insert into lane (queue, shop, active) "
            "select $1, 's' || n, true from generate_series(1, $2) as n", QUEUE, many,
        )  # fmt: skip
        await self.database.execute(ADD, await self.ids(many), jobs, 5, None)

    async def ids(self, many: int) -> list[int]:
        rows = await self.database.fetch("select id from lane order by id limit $1", many)
        return [row["id"] for row in rows]

    async def claim(
        self, want: int, *, store: EngineStore | None = None, lanes: int = 500
    ) -> list[Claimed]:
        """One claim, and the wake after it."""
        by = store or self.store
        _, jobs, dry = await by.settle_and_claim([], Claim(QUEUE, self.worker, want, lanes))
        await by.wake(dry)
        return jobs

    async def lane(self, shop: str, column: str) -> Any:
        return await self.database.fetchval(f"select {column} from lane where shop = $1", shop)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        """Another process's connection, in a transaction that is rolled back if it is left open."""
        async with self.database.connection() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                yield connection
            finally:
                if connection.is_in_transaction():
                    await transaction.rollback()

    async def buffers(self, want: int, **told: Any) -> int:
        """Pages that a claim touches, itself and all that it runs; it is rolled back."""
        named = "".join(f", {name} => ${n}" for n, name in enumerate(told, start=3))
        async with self.session() as other:
            for _ in range(2):  # the first one plans
                plan = await other.fetchval(
                    "explain (analyze, buffers, timing off, format json) "
                    f"select * from take_ready('{QUEUE}', $1, $2, 4{named})",
                    self.worker, want, *told.values(),
                )  # fmt: skip
        node = plan[0]["Plan"]
        assert node["Actual Rows"] >= want
        return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])

    async def entries_read(self, **told: Any) -> int:
        """Entries of the index of ready jobs, dead ones too, that a claim of 50 reads."""
        named = "".join(f", {name} => ${n}" for n, name in enumerate(told, start=2))
        read = (
            "select idx_tup_read from pg_stat_user_indexes where indexrelname = 'queue_job_ready'"
        )
        async with self.database.connection() as connection:
            await connection.execute("select pg_stat_force_next_flush()")
            before = await connection.fetchval(read)
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(
                f"select * from take_ready('{QUEUE}', $1, 50, 4{named})",
                self.worker,
                *told.values(),
            )
            await transaction.rollback()
            await connection.execute("select pg_stat_force_next_flush()")
            return int(await connection.fetchval(read) - before)


@pytest_asyncio.fixture
async def lanes(make_database: Databases) -> AsyncIterator[Lanes]:
    dsn = await make_database(MIGRATIONS)
    database = await postgres.open_database(dsn, size=10, application="test", settings=SETTINGS)
    await database.execute(NEW_QUEUE, QUEUE)
    worker, pulse = ids.new_id(), PostgresPulse(dsn)
    await pulse.register(worker, "test")
    await pulse.close()
    yield Lanes(database, EngineStore(database), worker)
    await database.close()


def shops(jobs: list[Claimed]) -> Counter[str | None]:
    return Counter(job.shop for job in jobs)


def done(job: Claimed) -> Settlement:
    return Settlement(id=job.id, lease_no=job.lease_no, verb=Verb.COMPLETED)


async def waiting(lanes: Lanes, connection: asyncpg.Connection) -> None:
    pid = connection.get_server_pid()
    await eventually(lambda: lanes.database.fetchval(WAITS, pid))


# Cursors: they skip dead entries and nothing else.


async def test_a_job_whose_place_was_drawn_early_and_committed_late_is_found(lanes: Lanes) -> None:
    await lanes.fill("a", 1)
    lane = await lanes.lane("a", "id")
    async with lanes.session() as late:
        await late.execute(ADD, [lane], 1, 5, None)
        await lanes.fill("a", HEAD_AFTER + 50)
        assert len(await lanes.claim(HEAD_AFTER)) == HEAD_AFTER
        await lanes.claim(1)
        await late.execute("commit")
    # Behind the cursor there are fewer than are wanted: the lane is looked at from its beginning.
    assert len(await lanes.claim(60)) == 51
    assert (
        await lanes.database.fetchval("select count(*) from queue_job where state = 'ready'") == 0
    )


async def test_a_lane_is_never_called_empty_by_its_cursor(lanes: Lanes) -> None:
    await lanes.fill("a", 5)
    lane = await lanes.lane("a", "id")
    beyond = [10**9] * 10
    rows = await lanes.database.fetch(
        "select * from take_ready($1, $2, 5, 4, p_head_lanes => $3, p_heads => $4)",
        QUEUE, lanes.worker, [lane], beyond,
    )  # fmt: skip
    assert [row["o_id"] is not None for row in rows] == [True] * 5
    assert await lanes.lane("a", "active")


async def test_a_cursor_of_one_priority_hides_no_job_of_another(lanes: Lanes) -> None:
    await lanes.fill("a", HEAD_AFTER + 100)
    await lanes.claim(HEAD_AFTER)
    await lanes.fill("a", 1, priority=0)
    (urgent,) = await lanes.claim(1)
    rows = await lanes.claim(10)
    places = await lanes.database.fetch(
        "select id, priority, seq from queue_job where id = any($1)",
        [job.id for job in [urgent, *rows]],
    )
    seen = {row["id"]: (row["priority"], row["seq"]) for row in places}
    assert seen[urgent.id][0] == 0
    first = await lanes.database.fetchval("select min(seq) from queue_job")
    assert [seen[job.id][1] - first for job in rows] == list(range(HEAD_AFTER, HEAD_AFTER + 10))


async def test_a_cursor_skips_what_is_dead_while_a_snapshot_is_pinned(lanes: Lanes) -> None:
    await lanes.fill("a", 3000)
    lane = await lanes.lane("a", "id")
    async with lanes.session() as pinned:
        await pinned.execute("set transaction isolation level repeatable read")
        await pinned.execute("select count(*) from queue_job")
        for _ in range(5):
            await lanes.claim(500)
        last = await lanes.database.fetchval(
            "select max(seq) from queue_job where state = 'running'"
        )
        assert await lanes.entries_read() > 2500
        heads = [0] * 5 + [last] + [0] * 4
        assert await lanes.entries_read(p_head_lanes=[lane], p_heads=heads) < 200


async def test_a_short_lane_is_looked_at_from_its_floor_while_a_snapshot_is_pinned(
    lanes: Lanes,
) -> None:
    await lanes.fill("a", 3000)
    lane = await lanes.lane("a", "id")
    async with lanes.session() as pinned:
        await pinned.execute("set transaction isolation level repeatable read")
        await pinned.execute("select count(*) from queue_job")
        for _ in range(6):
            await lanes.claim(500)
        last = await lanes.database.fetchval("select max(seq) from queue_job")
        heads = [0] * 5 + [last] + [0] * 4
        told = {"p_head_lanes": [lane], "p_heads": heads}
        assert await lanes.entries_read(**told) > 2500
        floors = [0] * 5 + [last - 100] + [0] * 4
        assert await lanes.entries_read(**told, p_floors=floors) < 300


async def test_a_job_that_a_floor_hides_is_found_once_its_lane_is_woken_again(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_lanes, "REWIND_BY_S", 0.0)
    monkeypatch.setattr(core_lanes, "REWIND_EVERY_S", 0.0)
    monkeypatch.setattr(core_lanes, "RESET_EVERY_S", 0.0)
    await lanes.fill("a", 1)
    lane = await lanes.lane("a", "id")
    async with lanes.session() as late:
        await late.execute(ADD, [lane], 1, 5, None)
        await lanes.fill("a", HEAD_AFTER)
        await lanes.claim(HEAD_AFTER + 1)
        await late.execute("commit")
    found = 0
    for _ in range(4):
        found += len(await lanes.claim(1))
        await lanes.store.wake_sleepers(after=0, limit=100)
    assert found == 1


# Waking: both who makes jobs ready and who finds a lane empty look again after their commit.


async def test_a_job_that_comes_while_its_lane_is_found_empty_is_seen_by_the_claimer(
    lanes: Lanes,
) -> None:
    await lanes.fill("a", 1)
    await lanes.claim(1)
    async with lanes.session() as claimer:
        rows = await claimer.fetch("select * from take_ready($1, $2, 5, 4)", QUEUE, lanes.worker)
        dry = [row["o_lane"] for row in rows if row["o_kind"] == "dry"]
        # To the enqueuer the lane is awake, before its commit and after it.
        await lanes.database.execute(ADD, dry, 1, 5, None)
        assert not await lanes.store.wake(dry)
        await claimer.execute("commit")
    assert not await lanes.lane("a", "active")
    assert await lanes.store.wake(dry)
    assert len(await lanes.claim(5)) == 1


async def test_a_job_that_commits_after_its_lane_was_found_empty_is_woken_by_its_enqueuer(
    lanes: Lanes,
) -> None:
    await lanes.fill("a", 1)
    await lanes.claim(1)
    lane = await lanes.lane("a", "id")
    async with lanes.session() as enqueuer:
        await enqueuer.execute(ADD, [lane], 1, 5, None)
        await enqueuer.execute("select activate_lanes($1)", [lane])
        assert await lanes.claim(5) == []
        assert not await lanes.lane("a", "active")
        await enqueuer.execute("commit")
    assert await lanes.store.wake([lane])
    assert len(await lanes.claim(5)) == 1


async def test_a_wake_waits_for_whoever_holds_the_lane(lanes: Lanes) -> None:
    await lanes.fill("a", 1)
    await lanes.database.execute("update lane set active = false")
    lane = await lanes.lane("a", "id")
    async with lanes.session() as holder, lanes.session() as waker:
        await holder.execute("select from lane where id = $1 for update", lane)
        wake = asyncio.create_task(waker.fetchval("select wake_lanes($1)", [lane]))
        await waiting(lanes, waker)
        await holder.execute("commit")
        assert await wake
        await waker.execute("commit")
    assert len(await lanes.claim(5)) == 1


async def test_wakes_of_the_same_lanes_in_any_order_do_not_deadlock(lanes: Lanes) -> None:
    await lanes.fill_many(20, 1)
    every = await lanes.ids(20)
    for _ in range(5):
        await lanes.database.execute("update lane set active = false")
        await asyncio.gather(
            *(
                lanes.database.execute("select activate_lanes($1)", order)
                for order in (every, every[::-1], every[10:] + every[:10])
            )
        )
        assert await lanes.database.fetchval("select bool_and(active) from lane")


async def test_lanes_that_are_awake_cost_the_reconciler_nothing(lanes: Lanes) -> None:
    await lanes.fill_many(3000, 1)
    await lanes.database.execute("update lane set active = false where id % 1000 = 0")
    plan = await lanes.database.fetchval(
        f"explain (analyze, buffers, format json) {SQL.sleeping}", 0, 2000
    )
    node = plan[0]["Plan"]
    assert node["Actual Rows"] == 3
    assert node["Shared Hit Blocks"] + node["Shared Read Blocks"] < 20


# Caps and limits.


async def test_what_a_settle_frees_the_claim_beside_it_may_take(lanes: Lanes) -> None:
    await lanes.fill("a", 10, cap=1)
    (first,) = await lanes.claim(10)
    for _ in range(9):
        statuses, (first,), _ = await lanes.store.settle_and_claim(
            [done(first)], Claim(QUEUE, lanes.worker, 10, 4)
        )
        assert statuses == [Status.SETTLED]
        assert await lanes.lane("a", "running") == 1


async def test_caps_and_the_limit_hold_at_every_moment_under_many_claimers(lanes: Lanes) -> None:
    for n in range(4):
        await lanes.fill(f"s{n}", 40, cap=2)
    await lanes.fill("free", 60)
    await lanes.database.execute("update queue set global_limit = 7")
    seen = 0

    async def work(store: EngineStore) -> int:
        ended: list[Settlement] = []
        total = idle = 0
        while idle < 5:
            statuses, jobs, dry = await store.settle_and_claim(
                ended, Claim(QUEUE, lanes.worker, 5, 500)
            )
            assert set(statuses) <= {Status.SETTLED}
            woken = await store.wake(dry)
            total, ended = total + len(jobs), [done(job) for job in jobs]
            idle = 0 if jobs or woken else idle + 1
        return total

    async def watch(workers: "asyncio.Future[list[int]]") -> None:
        nonlocal seen
        while not workers.done():
            row = await lanes.database.fetchrow(
                "select max(jobs) filter (where shop <> 'free') as lane, sum(jobs) as queue from ("
                "select shop, count(*) as jobs from queue_job where state = 'running'"
                " group by shop) as r"
            )
            assert row is not None
            assert (row["lane"] or 0) <= 2
            assert (row["queue"] or 0) <= 7
            seen += bool(row["queue"])

    workers = asyncio.gather(*(work(EngineStore(lanes.database)) for _ in range(4)))
    await asyncio.gather(workers, watch(workers))
    assert sum(workers.result()) == 220
    assert seen
    assert await lanes.database.fetchval("select bool_and(running = 0) from lane")
    assert await lanes.database.fetchval("select running from queue") == 0


async def test_a_cap_set_over_running_jobs_counts_them_and_never_goes_below_nothing(
    lanes: Lanes,
) -> None:
    await lanes.fill("a", 30)
    running = await lanes.claim(10)
    await PostgresQueues(lanes.database).change(QUEUE, {"per_shop_limit": 2})
    assert await lanes.claim(10) == []
    await lanes.store.settle([done(job) for job in running[:9]])
    assert await lanes.lane("a", "running") == 1
    assert len(await lanes.claim(10)) == 1
    await lanes.store.settle([done(running[9])])
    assert await lanes.lane("a", "running") == 1


async def test_a_cap_cannot_be_set_while_somebody_takes_jobs_without_the_lane(
    lanes: Lanes,
) -> None:
    await lanes.fill("a", 30)
    async with lanes.session() as first, lanes.session() as second, lanes.session() as operator:
        await first.execute("select * from take_ready($1, $2, 5, 4)", QUEUE, lanes.worker)
        rows = await second.fetch("select * from take_ready($1, $2, 5, 4)", QUEUE, lanes.worker)
        assert len([row for row in rows if row["o_id"]]) == 5
        await first.execute("commit")
        setting = asyncio.create_task(
            operator.execute("select from lane where queue = $1 for update", QUEUE)
        )
        await waiting(lanes, operator)
        await second.execute("commit")
        await setting


# Fairness.


async def test_a_lane_that_was_shut_for_long_earns_no_credit(lanes: Lanes) -> None:
    await lanes.fill("shut", 3000)
    await lanes.fill("busy", 6000)
    await lanes.database.execute("update lane set paused = true where shop = 'shut'")
    await lanes.database.execute("update lane set vtime = 50000 where shop = 'busy'")
    assert shops(await lanes.claim(500)) == {"busy": 500}
    await lanes.database.execute("update lane set paused = false where shop = 'shut'")
    seen = shops([job for _ in range(5) for job in await lanes.claim(500)])
    # What two claims can have brought the others, and then half and half.
    assert seen["busy"] >= 700


async def test_a_paused_lane_does_not_hold_the_clock_back(lanes: Lanes) -> None:
    await lanes.fill("paused", 10)
    await lanes.database.execute("update lane set paused = true")
    await lanes.fill("busy", 3000)
    await lanes.database.execute("update lane set vtime = 50000 where shop = 'busy'")
    await lanes.fill("sleeper", 1)
    await lanes.database.execute("update lane set active = false where shop = 'sleeper'")
    await lanes.store.wake([await lanes.lane("sleeper", "id")])
    assert await lanes.lane("sleeper", "vtime") == 50000


async def test_debt_of_another_day_does_not_starve_a_lane(lanes: Lanes) -> None:
    """It ran up when nobody else was there; then all slept, and others woke first."""
    await lanes.fill("old", 600)
    await lanes.database.execute("update lane set vtime = 1000000, active = false")
    await lanes.fill("new", 3000)
    await lanes.store.wake([await lanes.lane("old", "id")])
    assert await lanes.lane("old", "vtime") == 1000
    seen = shops([job for _ in range(4) for job in await lanes.claim(500)])
    assert seen == {"new": 1500, "old": 500}


async def test_a_campaign_and_single_messages_fill_a_claim_together(lanes: Lanes) -> None:
    await lanes.fill("campaign", 2000)
    await lanes.claim(500)
    await lanes.fill_many(20, 1)
    await lanes.fill("s20", 1)
    await lanes.database.execute("update lane set active = false where shop <> 'campaign'")
    await lanes.store.wake(await lanes.ids(21))
    jobs = await lanes.claim(500)
    assert len(jobs) == 500
    assert len(shops(jobs)) == 21


async def test_many_lanes_with_a_job_each_take_few_claims(lanes: Lanes) -> None:
    await lanes.fill_many(1000, 1)
    sizes = []
    while sum(sizes) < 1000:
        sizes.append(len(await lanes.claim(500)))
    assert len(sizes) <= 4
    # And where lanes are deep a claim visits few of them.
    await lanes.database.execute(ADD, await lanes.ids(64), 100, 5, None)
    await lanes.store.wake(await lanes.ids(64))
    # (Those that have given all they had are passed over first.)
    visited = [len(shops(await lanes.claim(100))) for _ in range(20)]
    assert visited[-1] == MIN_LANES


async def test_of_more_lanes_than_are_looked_at_each_time_none_is_forgotten(lanes: Lanes) -> None:
    many = 2 * MANY_LANES
    await lanes.fill_many(many, 2)
    found = [job for _ in range(16) for job in await lanes.claim(500)]
    assert len({job.id for job in found}) == 2 * many
    assert set(shops(found).values()) == {2}


async def test_lanes_that_others_have_served_are_no_reason_to_see_nothing_else(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_service.core.lanes.FRESH_S", 60.0)
    await lanes.fill_many(2 * MANY_LANES, 1)
    for _ in range(2):
        assert await lanes.claim(50)  # it remembers the others by now
    other = EngineStore(lanes.database)
    while await lanes.claim(500, store=other):
        pass
    await lanes.fill("late", 3)
    assert len(await lanes.claim(50)) == 3


async def test_lanes_that_a_claimer_remembers_are_looked_at_again_before_they_are_served(
    lanes: Lanes,
) -> None:
    await lanes.fill_many(4, 5)
    near = await lanes.ids(3)
    await lanes.database.execute("update lane set paused = true where id = $1", near[0])
    rows = await lanes.database.fetch(
        "select * from take_ready($1, $2, 50, 4, p_near => $3)", QUEUE, lanes.worker, near
    )
    assert Counter(row["o_lane"] for row in rows if row["o_id"]) == {near[1]: 5, near[2]: 5}


async def test_one_busy_lane_serves_several_claimers_and_all_of_it_is_paid_for(
    lanes: Lanes,
) -> None:
    await lanes.fill("a", 200)
    borrower = EngineStore(lanes.database)
    async with lanes.session() as holder:
        rows = await holder.fetch("select * from take_ready($1, $2, 50, 4)", QUEUE, lanes.worker)
        assert len([row for row in rows if row["o_id"]]) == 50
        assert len(await lanes.claim(50, store=borrower)) == 50
        await holder.execute("commit")
    assert await lanes.lane("a", "vtime") == 50
    assert len(await lanes.claim(20, store=borrower)) == 20
    assert await lanes.lane("a", "vtime") == 120
    await lanes.claim(20, store=borrower)
    assert await lanes.lane("a", "vtime") == 140


async def test_nobody_takes_jobs_of_a_capped_lane_without_the_lane(lanes: Lanes) -> None:
    await lanes.fill("a", 20, cap=10)
    async with lanes.session() as holder:
        await holder.execute("select * from take_ready($1, $2, 5, 4)", QUEUE, lanes.worker)
        assert await lanes.claim(50) == []
    assert len(await lanes.claim(50)) == 10


@pytest.mark.parametrize("seed", range(8))
async def test_lanes_that_stay_busy_never_drift_apart_by_more_than_the_bound(
    lanes: Lanes, seed: int
) -> None:
    """|W_i/w_i - W_j/w_j| <= (c + 1)(q/w_i + q/w_j), here with c = 1 claimer."""
    chance = random.Random(seed)
    weights = [chance.choice([0.25, 0.5, 1.0, 3.0]) for _ in range(chance.randint(2, 9))]
    wants = [chance.randint(1, 40) for _ in range(8)]
    few = chance.randint(1, 9)
    for n, weight in enumerate(weights):
        await lanes.fill(f"s{n}", sum(wants), weight=weight)
    served: Counter[str | None] = Counter()
    for want in wants:
        jobs = await lanes.claim(want, lanes=few)
        assert len(jobs) == want
        served.update(shops(jobs))
        for (i, one), (j, other) in itertools.combinations(enumerate(weights), 2):
            drift = abs(served[f"s{i}"] / one - served[f"s{j}"] / other)
            assert drift <= 2 * max(wants) * (1 / one + 1 / other)


# What cannot be served costs nothing, and a claim never skips.


async def test_shops_that_are_paused_full_or_parked_cost_a_claim_nothing(lanes: Lanes) -> None:
    for n in range(4):
        await lanes.fill(f"s{n}", 50)
    await lanes.database.execute("vacuum analyze")
    alone = await lanes.buffers(100)
    for column in ("paused", "cap", "not_before"):
        value = {"paused": "true", "cap": "0", "not_before": "now() + interval '1 day'"}[column]
        await lanes.database.execute(
            f"insert into lane (queue, shop, active, vtime, {column})"
            f" select $1, '{column}' || n, true, -1, {value} from generate_series(1, 2000) as n",
            QUEUE,
        )
    await lanes.database.execute("vacuum analyze")
    # A tree of lanes that has grown by a level, and nothing for each lane.
    assert await lanes.buffers(100) <= alone + 150


async def test_a_parked_lane_is_served_again_when_its_time_has_come(lanes: Lanes) -> None:
    await lanes.fill("a", 5)
    await lanes.database.execute("update lane set not_before = now() + interval '1 day'")
    assert await lanes.claim(5) == []
    await lanes.database.execute("update lane set not_before = now() - interval '1 s'")
    assert len(await lanes.claim(5)) == 5
    assert await lanes.lane("a", "not_before") is None


async def test_jobs_of_a_paused_batch_are_moved_out_of_the_way(lanes: Lanes) -> None:
    batch = ids.new_id()
    await lanes.database.execute(
        "insert into batch (id, name, queue, kind, defaults, fingerprint, paused)"
        " values ($1, 'b', $2, 'test', '{}', 'f', true)", batch, QUEUE,
    )  # fmt: skip
    await lanes.fill("a", 60, batch=batch)
    await lanes.fill("a", 5)
    found: list[Claimed] = []
    for _ in range(8):
        found += await lanes.claim(5)
    assert [job.batch_id for job in found] == [None] * 5
    held = await lanes.database.fetchval("select count(*) from queue_job where state = 'held'")
    assert held == 60
