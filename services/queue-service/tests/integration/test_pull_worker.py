"""The SDK's client and worker, pulling from a queue-service."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from mainstay import errors
from mainstay.children import NewJob, child_id
from mainstay.client import Client
from mainstay.handler import (
    Cancel,
    Context,
    Discard,
    Handler,
    Permanent,
    Refused,
    Retry,
    Snooze,
    WrongSettings,
    handler,
)
from mainstay.worker import Worker
from testkit.faults import TcpProxy
from testkit.signals import eventually

Scopes = frozenset({"jobs:read", "jobs:write", "queues:admin", "ratelimits:check"})


@dataclass
class Shop:
    """A service with one pulled queue, a client, and workers that stop with the test."""

    service: Any
    client: Client
    stack: AsyncExitStack
    running: list[tuple[Worker, asyncio.Task[None]]] = field(default_factory=list)

    async def begin(
        self, *handlers: Handler[Any], client: Client | None = None, **how: Any
    ) -> tuple[Worker, asyncio.Task[None]]:
        worker = Worker(client or self.client, "pulled", handlers, **how)
        task = asyncio.create_task(worker.run())

        async def end() -> None:
            worker.stop()
            await asyncio.gather(task, return_exceptions=True)

        self.stack.push_async_callback(end)
        return worker, task

    async def enqueue(self, kind: str = "test", n: int = 1, **more: Any) -> list[str]:
        jobs = [{"kind": kind, "queue": "pulled", **more} for _ in range(n)]
        told = await self.client.enqueue_batch(jobs, atomic=True)
        return [str(one.id) for one in told.results]

    async def when(self, job_id: str, *states: str, within_s: float = 10.0) -> Any:
        async def seen() -> Any:
            job = await self.client.get_job(job_id)
            assert job.state in states, job.state
            return job

        return await eventually(seen, within_s=within_s)


@pytest_asyncio.fixture
async def shop(service: Any) -> AsyncIterator[Shop]:
    await service.call("PUT", "/v1/queues/pulled", {})
    token = service.minter.mint("queue-service", key_id="k", scopes=Scopes)
    async with Client(service.url, token, attempts=2) as client, AsyncExitStack() as stack:
        yield Shop(service, client, stack)


async def test_the_client_leases_keeps_settles_and_gives_back(shop: Shop) -> None:
    wanted = await shop.enqueue(n=3)
    leased = await shop.client.lease("pulled", max=3, lease_s=30, worker="w")
    assert leased.backend == "postgres"
    done, failed, given = leased.jobs
    assert sorted(str(job.id) for job in leased.jobs) == sorted(wanted)
    told = await shop.client.heartbeat([job.held for job in leased.jobs], extend_s=60)
    assert (told.lost, told.cancel) == ([], [])
    assert await shop.client.mark(done, "charge") is True
    settled = await shop.client.settle(
        [done.completed({"ok": 1}), failed.failed("boom", "it broke", delay_s=3600)],
        lease={"queue": "pulled", "max": 1},
    )
    assert [one.status for one in settled.results] == ["settled", "settled"]
    assert settled.jobs == []
    assert [one.status for one in (await shop.client.release([given])).results] == ["settled"]
    (again,) = (await shop.client.lease("pulled", wait_s=5)).jobs
    assert (again.id, again.attempt) == (given.id, 1)
    assert (await shop.client.get_job(done.id)).result == {"ok": 1}


async def test_a_worker_runs_what_is_enqueued_many_at_a_time(shop: Shop) -> None:
    running, most = 0, 0

    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> dict[str, Any]:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0.01)
        running -= 1
        return {"attempt": ctx.job.attempt}

    await shop.begin(work, concurrency=8)
    wanted = await shop.enqueue(n=100)
    for job_id in wanted:
        job = await shop.when(job_id, "completed")
        assert (job.result, job.attempt) == ({"attempt": 1}, 1)
    assert 1 < most <= 8


OUTCOMES: list[tuple[Callable[[], Any], str, str | None]] = [
    (lambda: {"ok": 1}, "completed", None),
    (lambda: Retry(3600, "not today"), "retrying", "retry"),
    (lambda: Snooze(3600), "scheduled", None),
    (lambda: Cancel("unwanted"), "cancelled", "cancelled"),
    (lambda: Discard("vain"), "failed", "discarded"),
    (lambda: 1 / 0, "retrying", "ZeroDivisionError"),
    (lambda: _raise(Permanent("no\x00 \ud800 use")), "failed", "permanent"),
    (lambda: {"bad": object()}, "failed", "bad_result"),
    (lambda: {"bad": "\x00"}, "failed", "bad_result"),
    (lambda: {"bad": "x" * 1_100_000}, "failed", "bad_result"),
]


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(("act", "state", "error"), OUTCOMES)
async def test_every_ending_of_a_handler_is_settled_as_it_is(
    shop: Shop, act: Callable[[], Any], state: str, error: str | None
) -> None:
    @handler("test")
    def work(_args: dict[str, Any], _ctx: Context) -> Any:
        return act()

    @handler("good")
    def good(_args: dict[str, Any], _ctx: Context) -> None:
        return None

    (job_id,) = await shop.enqueue()
    (other,) = await shop.enqueue("good")
    await shop.begin(work, good)
    job = await shop.when(job_id, state)
    assert (job.errors[-1].type if job.errors else None) == error
    assert (await shop.when(other, "completed")).attempt == 1


async def test_long_work_is_kept_by_heartbeats_and_its_progress_seen(shop: Shop) -> None:
    go_on = asyncio.Event()

    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> None:
        await ctx.progress({"row": 1})
        await ctx.progress({"row": 2})
        await go_on.wait()

    (job_id,) = await shop.enqueue()
    await shop.begin(work, lease_s=3)

    async def told() -> bool:
        return bool((await shop.client.get_job(job_id)).progress == {"row": 2})

    await eventually(told, within_s=5)  # by the first heartbeat
    first = await shop.service.fetch("select lease_until from queue_job")

    async def kept() -> bool:
        now = await shop.service.fetch("select lease_until from queue_job")
        return bool((now[0][0] - first[0][0]).total_seconds() > 0.9)

    await eventually(kept, within_s=6)
    go_on.set()
    assert (await shop.when(job_id, "completed")).attempt == 1


async def test_a_cancelled_job_is_told_and_ends(shop: Shop) -> None:
    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> Cancel:
        await ctx.cancelled.wait()
        return Cancel("as told")

    (job_id,) = await shop.enqueue()
    await shop.begin(work, lease_s=3)
    await shop.when(job_id, "running")
    await shop.client.cancel(job_id)
    await shop.when(job_id, "cancelled", within_s=5)


async def test_a_job_whose_lease_was_lost_is_run_by_another_and_once_holds(shop: Shop) -> None:
    runs: list[int] = []
    lost = asyncio.Event()

    @handler("test", delivery="at_most_once")
    async def work(_args: dict[str, Any], ctx: Context) -> None:
        await ctx.once("charge")
        runs.append(ctx.job.attempt)
        if len(runs) == 1:
            await ctx.cancelled.wait()
            lost.set()

    (job_id,) = await shop.enqueue()
    await shop.begin(work, lease_s=3)
    await eventually(lambda: runs == [1])
    await shop.service.fetch("update queue_job set lease_until = clock_timestamp()")
    job = await shop.when(job_id, "failed")
    assert [one.type for one in job.errors] == ["lease_expired", "ambiguous"]
    await eventually(lost.is_set)
    assert runs == [1]


async def test_retry_takes_the_mark_away_and_an_exception_leaves_it(shop: Shop) -> None:
    seen: list[bool] = []

    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> Retry | None:
        seen.append(await ctx.once("charge"))
        if len(seen) == 1:
            return Retry(0, "it did not happen")
        if len(seen) == 2:
            raise RuntimeError
        return None

    (job_id,) = await shop.enqueue(retry={"base_s": 0.01, "max_s": 0.01})
    await shop.begin(work)
    await shop.when(job_id, "completed")
    assert seen == [True, True, False]


async def test_a_kind_without_a_handler_waits_for_one(shop: Shop) -> None:
    (job_id,) = await shop.enqueue("other")
    await shop.begin()
    assert (await shop.when(job_id, "scheduled")).attempt == 0


async def test_a_stop_lets_running_jobs_end_and_gives_back_the_rest(shop: Shop) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    @handler("quick")
    async def quick(_args: dict[str, Any], _ctx: Context) -> None:
        begun.set()
        await end.wait()

    @handler("endless")
    async def endless(_args: dict[str, Any], _ctx: Context) -> None:
        await asyncio.Event().wait()

    (first,) = await shop.enqueue("quick")
    (second,) = await shop.enqueue("endless")
    worker, task = await shop.begin(quick, endless, concurrency=2, drain_s=1.0)
    await begun.wait()
    await shop.when(second, "running")
    (third,) = await shop.enqueue("quick")
    worker.stop()
    end.set()
    await task
    assert (await shop.client.get_job(first)).state == "completed"
    for given_back in (second, third):
        job = await shop.client.get_job(given_back)
        assert (job.state, job.attempt) == ("ready", 0)


async def test_an_idle_worker_stops_soon(shop: Shop) -> None:
    worker, task = await shop.begin()
    await asyncio.sleep(0)
    worker.stop()
    async with asyncio.timeout(2):
        await task


async def test_the_service_going_away_costs_no_result(shop: Shop) -> None:
    """The answers to both calls are lost; what was said is said again."""
    done: list[str] = []
    go_on = asyncio.Event()

    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> None:
        await go_on.wait()
        done.append(str(ctx.job.id))

    token = shop.service.minter.mint("queue-service", key_id="k", scopes=Scopes)
    proxy = await shop.stack.enter_async_context(TcpProxy.before(shop.service.url))
    far = await shop.stack.enter_async_context(
        Client(proxy.url(shop.service.url), token, timeout_s=2, attempts=1)
    )
    wanted = await shop.enqueue(n=5)
    await shop.begin(work, client=far)
    for job_id in wanted:
        await shop.when(job_id, "running")
    await proxy.refuses()
    go_on.set()
    await eventually(lambda: len(done) == 5)
    await proxy.passes()
    for job_id in wanted:
        assert (await shop.when(job_id, "completed")).attempt == 1
    assert sorted(done) == sorted(wanted)


async def test_what_no_repeat_can_help_ends_the_worker(shop: Shop) -> None:
    with pytest.raises(errors.Conflict) as caught:
        await Worker(shop.client, "sms", []).run()
    assert caught.value.code == "queue_served_by_worker"
    with pytest.raises(errors.NotFound):
        await Worker(shop.client, "nowhere", []).run()
    async with Client(shop.service.url, "no-key") as stranger:
        with pytest.raises(errors.Unauthenticated):
            await Worker(stranger, "pulled", []).run()


async def test_what_a_pulled_job_makes_is_made_once_and_under_the_ids_of_the_built_in_worker(
    shop: Shop,
) -> None:
    """A queue may change hands between two attempts."""

    @handler("test")
    async def parent(_args: dict[str, Any], ctx: Context) -> Any:
        left = await ctx.checkpoint()
        one = await ctx.enqueue("child", {"attempt": ctx.job.attempt}, name="one", tags=["made"])
        rows = [NewJob(name=f"row:{n}", kind="child", tags=["made"]) for n in range(300)]
        made = await ctx.enqueue_many(rows)
        assert made[7] == child_id(ctx.job.id, ctx.job.created_at, "row:7")
        await ctx.progress({"attempt": ctx.job.attempt})
        if ctx.job.attempt == 1:
            return Retry(0.0)
        waiting = await ctx.waiting("default"), await ctx.waiting("default", limit=5)
        return {"left": left, "one": str(one), "waiting": waiting}

    await shop.begin(parent, concurrency=1)
    (job_id,) = await shop.enqueue(shop="a.x")
    job = await shop.when(job_id, "completed", within_s=20.0)
    assert job.result["left"] == {"attempt": 1}
    assert job.result["waiting"] == [301, 5]
    one = await shop.client.get_job(job.result["one"])
    assert (one.args, one.shop) == ({"attempt": 1}, "a.x")
    assert await shop.client.cancel_jobs(dry_run=True, tag="made") == 301


async def test_new_jobs_that_are_wrong_are_named_to_a_pulled_handler_too(shop: Shop) -> None:
    @handler("test")
    async def parent(_args: dict[str, Any], ctx: Context) -> Any:
        good = NewJob(name="good", kind="child")
        bad = [NewJob(name="a", kind="child", args={"a": "\x00"}),
               NewJob(name="b", kind="child", queue="nowhere")]  # fmt: skip
        with pytest.raises(Refused) as caught:
            await ctx.enqueue_many([good, *bad])
        with pytest.raises(WrongSettings):
            _ = ctx.outside
        return {str(place): why for place, why in caught.value.jobs.items()}

    await shop.begin(parent, concurrency=1)
    (job_id,) = await shop.enqueue()
    result = (await shop.when(job_id, "completed")).result
    assert set(result) == {"1", "2"}
    assert "nowhere" in result["2"]


async def test_a_pull_worker_stops_when_too_many_threads_go_on(shop: Shop) -> None:
    let_go = threading.Event()

    @handler("test", timeout_s=0.1)
    def stubborn(_args: dict[str, Any], _ctx: Context) -> None:
        let_go.wait(30)

    try:
        _, task = await shop.begin(stubborn, concurrency=3, max_abandoned=2)
        wanted = await shop.enqueue(n=2, max_attempts=1)
        for job_id in wanted:
            await shop.when(job_id, "failed")
        async with asyncio.timeout(10):
            await task
    finally:
        let_go.set()
