"""Days on which other queues went wrong, or were careful: which of them is told in README.md."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mainstay import errors
from mainstay.answers import LeasedJob
from testkit.signals import eventually

from .conftest import Rig, ways

pytestmark = [pytest.mark.asyncio(loop_scope="session"), ways(only="pull")]

SHOP = "olives.myshopify.com"
OTHER = "honey.myshopify.com"


async def lease(rig: Rig, count: int, *, wait_s: float = 5.0, **how: float) -> list[LeasedJob]:
    """So many, or the test fails."""
    found: list[LeasedJob] = []

    async def enough() -> bool:
        leased = await rig.client.lease(
            rig.queue, max=count - len(found), wait_s=1.0, lease_s=how.get("lease_s", 60.0)
        )
        found.extend(leased.jobs)
        return len(found) >= count

    await eventually(enough, wait_s)
    return found


async def nothing_to_lease(rig: Rig) -> bool:
    return not (await rig.client.lease(rig.queue, max=10)).jobs


async def test_no_args_are_args_of_their_own(rig: Rig) -> None:
    unique = {"by": ["args"]}
    empty = await rig.enqueue(unique=unique)
    named = await rig.enqueue(args={"name": "Eleni"}, unique=unique)
    null = await rig.enqueue(args={"name": None}, unique=unique)
    assert len({empty, named, null}) == 3
    assert await rig.enqueue(unique=unique) == empty


async def test_the_time_of_a_twin_holds_up_nobody_else(rig: Rig) -> None:
    """Becoming ready takes no key, so one conflict cannot stop the staging of all."""
    unique = {"key": "report", "states": ["scheduled"]}
    soon = await rig.enqueue(delay_s=0.3, unique=unique)
    assert await rig.enqueue(delay_s=0.3, unique=unique) == soon
    other = await rig.enqueue(delay_s=0.3)
    first, second = await lease(rig, 2)
    assert {str(first.id), str(second.id)} == {soon, other}
    assert await rig.enqueue(delay_s=3600, unique=unique) != soon


async def test_a_late_ending_alters_no_job_that_ended_otherwise(rig: Rig) -> None:
    job_id = await rig.enqueue()
    (job,) = await lease(rig, 1)
    await rig.client.cancel(job_id)
    await rig.take_lease_away(job_id)
    assert (await rig.reaches(job_id, "cancelled")).finished_at is not None
    told = await rig.client.settle([job.completed({"late": True})])
    assert [one.status for one in told.results] == ["lost"]
    after = await rig.client.get_job(job_id)
    assert (after.state, after.result) == ("cancelled", None)


async def test_hurrying_a_job_that_is_ready_does_not_cost_its_place(rig: Rig) -> None:
    first, second = await rig.enqueue(), await rig.enqueue()
    before = await rig.client.get_job(first)
    assert (await rig.client.run_now(first)).run_at == before.run_at
    assert [str(job.id) for job in await lease(rig, 1)] == [first]
    assert [str(job.id) for job in await lease(rig, 1)] == [second]


async def test_jobs_that_cannot_be_rescued_now_do_not_hide_those_that_can(rig: Rig) -> None:
    for _ in range(4):
        await rig.enqueue()
    *stuck, free = [job.id for job in await lease(rig, 4, lease_s=1)]
    async with rig.connection() as other, other.transaction():
        await other.execute("select 1 from queue_job where id = any($1) for update", stuck)
        await rig.reaches(str(free), "ready", "retrying", within_s=5.0)
    for job_id in stuck:
        await rig.reaches(str(job_id), "ready", "retrying", within_s=5.0)


async def test_the_limits_of_a_queue_and_of_a_shop_hold_together(rig: Rig) -> None:
    await rig.put_queue(global_limit=3, per_shop_limit=2)
    for _ in range(4):
        await rig.enqueue(shop=SHOP)
        await rig.enqueue(shop=OTHER)
    running = await lease(rig, 3)
    assert await nothing_to_lease(rig)
    shops = [job.shop for job in running]
    assert sorted(map(shops.count, {SHOP, OTHER})) == [1, 2]
    done = next(job for job in running if shops.count(job.shop) == 2)
    await rig.client.settle([done.completed()])
    await lease(rig, 1)
    assert await nothing_to_lease(rig)


async def test_what_is_retried_by_hand_is_no_longer_finished(rig: Rig) -> None:
    """A retention that looks at the time of the end would eat it."""
    job_id = await rig.enqueue(max_attempts=1)
    (job,) = await lease(rig, 1)
    await rig.client.settle([job.failed("boom", "it broke")])
    assert (await rig.reaches(job_id, "failed")).finished_at is not None
    assert (await rig.client.retry(job_id)).finished_at is None
    again = await rig.client.retry(job_id)  # asked twice
    assert (again.state, again.max_attempts) == ("ready", 2)
    (job,) = await lease(rig, 1)
    await rig.client.settle([job.completed()])
    with pytest.raises(errors.Conflict) as refused:
        await rig.client.retry(job_id)
    assert refused.value.code == "job_not_retryable"


async def test_one_who_was_taken_for_dead_gives_no_place_back_twice(rig: Rig) -> None:
    await rig.put_queue(global_limit=1)
    for _ in range(3):
        await rig.enqueue(retry={"base_s": 3600, "max_s": 3600, "factor": 1, "jitter": 0})
    (stale,) = await lease(rig, 1)
    await rig.take_lease_away(str(stale.id))
    (current,) = await lease(rig, 1)
    for said in (stale.completed(), stale.failed("boom"), stale.snooze(0)):
        assert [one.status for one in (await rig.client.settle([said])).results] == ["lost"]
    assert [one.status for one in (await rig.client.release([stale])).results] == ["lost"]
    assert await nothing_to_lease(rig)
    await rig.client.settle([current.completed()])
    await lease(rig, 1)
    assert await nothing_to_lease(rig)


async def test_the_place_of_a_worker_that_died_is_free_again_by_itself(rig: Rig) -> None:
    await rig.put_queue(global_limit=1)
    await rig.enqueue()
    await rig.enqueue()
    await lease(rig, 1, lease_s=1)
    assert await nothing_to_lease(rig)
    await lease(rig, 1, wait_s=10.0)


async def test_two_who_ask_together_for_the_last_place_do_not_both_get_it(rig: Rig) -> None:
    await rig.put_queue(global_limit=1)
    for _ in range(5):
        await rig.enqueue()
    asked = await asyncio.gather(*(rig.client.lease(rig.queue, max=3) for _ in range(8)))
    assert sum(len(one.jobs) for one in asked) == 1


async def test_a_time_that_has_passed_is_now_and_far_times_stay_in_their_order(rig: Rig) -> None:
    now = datetime.now(UTC)
    past = await rig.enqueue(run_at=now - timedelta(days=30))
    later = await rig.enqueue(run_at=now + timedelta(days=300))
    assert [str(job.id) for job in await lease(rig, 1)] == [past]
    assert (await rig.client.get_job(later)).state == "scheduled"
    assert (await rig.client.run_now(later)).state == "ready"
    assert [str(job.id) for job in await lease(rig, 1)] == [later]


async def test_by_filter_first_counted_then_done(rig: Rig) -> None:
    wanted = [await rig.enqueue(tags=["old"]) for _ in range(3)]
    spared = await rig.enqueue(tags=["new"])
    count = {"queue": rig.queue, "tag": "old"}
    assert await rig.client.cancel_jobs(dry_run=True, **count) == 3
    assert (await rig.client.get_job(wanted[0])).state == "ready"
    assert await rig.client.cancel_jobs(**count) == 3
    for job_id in wanted:
        await rig.reaches(job_id, "cancelled")
    assert (await rig.client.get_job(spared)).state == "ready"
    assert await rig.client.retry_jobs(**count) == 3
    for job_id in wanted:
        await rig.reaches(job_id, "ready")
