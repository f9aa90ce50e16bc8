"""What running a job means, whoever runs it."""

import asyncio
import itertools
import threading
import time
from typing import Any

import pytest
from pydantic import BaseModel

from mainstay.handler import (
    Cancel,
    Context,
    Discard,
    Retry,
    Snooze,
    handler,
)
from testkit.signals import eventually

from .conftest import RETRY, Rig, ways

pytestmark = pytest.mark.asyncio(loop_scope="session")


@ways()
async def test_args_arrive_as_they_were_sent_and_the_result_is_read(rig: Rig) -> None:
    @handler("test")
    async def echo(args: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"id": str(ctx.job.id), "attempt": ctx.job.attempt, "args": args}

    await rig.run(echo)
    args = {"όνομα": "Ελένη", "n": 2**53, "deep": [{"a": [None, True, 1.5]}], "empty": ""}
    job_id = await rig.enqueue(args=args)
    job = await rig.reaches(job_id, "completed")
    assert job.result == {"id": job_id, "attempt": 1, "args": args}
    assert (job.attempt, job.errors) == (1, [])
    assert job.finished_at is not None


@ways()
async def test_a_failed_attempt_waits_its_back_off_and_the_last_one_ends_the_job(rig: Rig) -> None:
    @handler("test")
    async def broken(_args: dict[str, Any], ctx: Context) -> None:
        raise ValueError(f"attempt {ctx.job.attempt}")

    await rig.run(broken)
    job = await rig.reaches(await rig.enqueue(max_attempts=3), "failed")
    assert [one.attempt for one in job.errors] == [1, 2, 3]
    assert all(one.retryable and one.type and one.message for one in job.errors)
    times = [one.at for one in job.errors]
    waited = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    assert min(waited) >= RETRY["base_s"]


@ways()
async def test_an_attempt_after_failures_completes_and_their_history_stays(rig: Rig) -> None:
    @handler("test")
    async def second_try(_args: dict[str, Any], ctx: Context) -> dict[str, int]:
        if ctx.job.attempt == 1:
            raise RuntimeError("not yet")
        return {"attempt": ctx.job.attempt}

    await rig.run(second_try)
    job = await rig.reaches(await rig.enqueue(), "completed")
    assert (job.result, job.attempt) == ({"attempt": 2}, 2)
    assert [one.attempt for one in job.errors] == [1]


@ways()
async def test_a_snooze_spends_no_attempt_and_is_no_error(rig: Rig) -> None:
    seen: list[int] = []

    @handler("test")
    async def later(_args: dict[str, Any], ctx: Context) -> Snooze | None:
        seen.append(ctx.job.attempt)
        return Snooze(1) if len(seen) == 1 else None

    await rig.run(later)
    job = await rig.reaches(await rig.enqueue(max_attempts=1), "completed")
    assert (seen, job.attempt, job.errors) == ([1, 1], 1, [])


@ways()
async def test_a_job_that_is_cancelled_while_it_runs_is_told_and_ends_cancelled(rig: Rig) -> None:
    begun, told = asyncio.Event(), asyncio.Event()

    @handler("test")
    async def endless(_args: dict[str, Any], ctx: Context) -> dict[str, bool]:
        begun.set()
        try:
            await ctx.cancelled.wait()
        finally:
            told.set()
        return {"too": True}

    await rig.run(endless)
    job_id = await rig.enqueue()
    await asyncio.wait_for(begun.wait(), 10)
    await rig.client.cancel(job_id)
    job = await rig.reaches(job_id, "cancelled", "completed")
    if rig.way.is_python:  # what was done is done; an app behind a URL is hung up on
        assert (job.state, job.result) in (("completed", {"too": True}), ("cancelled", None))
    else:
        assert job.state == "cancelled"
    await asyncio.wait_for(told.wait(), 10)


@ways()
async def test_what_takes_too_long_is_a_failed_attempt(rig: Rig) -> None:
    @handler("test", timeout_s=0.2)
    async def endless(_args: dict[str, Any], _ctx: Context) -> None:
        await asyncio.Event().wait()

    await rig.run(endless)
    job = await rig.reaches(await rig.enqueue(max_attempts=1), "failed")
    (error,) = job.errors
    assert error.retryable


@ways()
async def test_of_a_job_that_ran_twice_one_result_is_accepted(rig: Rig) -> None:
    """The first to run it is taken for dead while it works, and ends after the second."""
    runs: list[int] = []
    go_on = asyncio.Event()

    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> dict[str, int]:
        runs.append(ctx.job.attempt)
        run = len(runs)
        if run == 1:
            await go_on.wait()
        return {"run": run}

    await rig.run(work)
    job_id = await rig.enqueue()
    await eventually(lambda: runs == [1], 10.0)
    await rig.take_lease_away(job_id)
    job = await rig.reaches(job_id, "completed", within_s=30.0)
    go_on.set()
    await rig.stop()
    again = await rig.client.get_job(job_id)
    assert job.result == again.result == {"run": 2}
    # Who delivers to a URL says at once that it has stopped, if nobody has noticed until then.
    assert [one.attempt for one in again.errors] in ([1], [1] if rig.way.is_python else [])
    assert len(runs) == 2


@ways()
async def test_no_more_run_at_once_than_the_queue_says(rig: Rig) -> None:
    running, most = 0, 0

    @handler("test")
    async def work(_args: dict[str, Any], _ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    await rig.put_queue(global_limit=2)
    wanted = [await rig.enqueue(shop=f"s{n % 3}.myshopify.com") for n in range(8)]
    await rig.run(work)
    for job_id in wanted:
        await rig.reaches(job_id, "completed")
    assert most == 2


@ways()
async def test_of_what_waits_the_most_urgent_starts_first(rig: Rig) -> None:
    order: list[int] = []

    @handler("test")
    async def work(args: dict[str, Any], _ctx: Context) -> None:
        order.append(args["priority"])

    await rig.put_queue(concurrency=1, global_limit=1)
    wanted = [await rig.enqueue(args={"priority": p}, priority=p) for p in (5, 9, 0, 7, 2)]
    await rig.run(work)
    for job_id in wanted:
        await rig.reaches(job_id, "completed")
    assert order == [0, 2, 5, 7, 9]


@ways()
async def test_a_stop_lets_what_runs_end_and_gives_the_rest_back_unspent(rig: Rig) -> None:
    begun, end = asyncio.Event(), asyncio.Event()

    @handler("test")
    async def work(_args: dict[str, Any], _ctx: Context) -> None:
        begun.set()
        await end.wait()

    await rig.put_queue(global_limit=1)
    wanted = [await rig.enqueue() for _ in range(3)]
    await rig.run(work, drain_s=10.0)
    await asyncio.wait_for(begun.wait(), 10)
    stopping = asyncio.create_task(rig.stop())
    end.set()
    began = time.monotonic()
    await stopping
    assert time.monotonic() - began < 8
    jobs = [await rig.client.get_job(job_id) for job_id in wanted]
    ended = [job for job in jobs if job.state == "completed"]
    assert ended
    assert {(job.state, job.attempt) for job in jobs if job not in ended} <= {("ready", 0)}


@ways()
async def test_what_does_not_end_in_time_is_interrupted_and_goes_back_unspent(rig: Rig) -> None:
    begun = asyncio.Event()

    @handler("test", timeout_s=30)
    async def endless(_args: dict[str, Any], _ctx: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    job_id = await rig.enqueue()
    await rig.run(endless, drain_s=0.5)
    await asyncio.wait_for(begun.wait(), 10)
    await rig.stop()
    job = await rig.client.get_job(job_id)
    assert (job.state, job.attempt, job.errors) == ("ready", 0, [])


@ways(python_only=True)
async def test_a_discard_ends_it_at_once_and_args_that_do_not_fit_do_too(rig: Rig) -> None:
    class Wanted(BaseModel):
        name: str

    @handler("test", args=Wanted)
    async def fits(_args: Wanted, _ctx: Context) -> Discard:
        return Discard("in vain")

    await rig.run(fits)
    discarded = await rig.reaches(await rig.enqueue(args={"name": "Eleni"}), "failed")
    misfit = await rig.reaches(await rig.enqueue(args={"nom": "Eleni"}), "failed")
    assert [(one.type, one.retryable) for one in discarded.errors] == [("discarded", False)]
    assert [(one.type, one.retryable) for one in misfit.errors] == [("invalid_args", False)]
    assert "Eleni" not in misfit.errors[0].message


@ways(python_only=True)
async def test_a_handler_may_say_that_a_job_is_no_longer_wanted(rig: Rig) -> None:
    @handler("test")
    async def unwanted(_args: dict[str, Any], _ctx: Context) -> Cancel:
        return Cancel("the order was withdrawn")

    await rig.run(unwanted)
    job = await rig.reaches(await rig.enqueue(), "cancelled")
    assert job.errors[-1].message == "the order was withdrawn"


@ways(python_only=True)
async def test_retry_waits_as_long_as_it_says_and_spends_the_attempt(rig: Rig) -> None:
    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> Retry | None:
        return Retry(0.3, "busy") if ctx.job.attempt == 1 else None

    await rig.run(work)
    job = await rig.reaches(await rig.enqueue(), "completed")
    (error,) = job.errors
    assert (error.type, error.message, job.attempt) == ("retry", "busy", 2)
    assert job.finished_at is not None
    assert (job.finished_at - error.at).total_seconds() >= 0.3


@ways(python_only=True)
async def test_at_most_once_ends_as_ambiguous_where_an_effect_may_have_happened(rig: Rig) -> None:
    effects: list[int] = []

    @handler("test", delivery="at_most_once")
    async def charge(_args: dict[str, Any], ctx: Context) -> None:
        await ctx.once("charge")
        effects.append(ctx.job.attempt)
        raise RuntimeError("the answer was lost")

    await rig.run(charge)
    job = await rig.reaches(await rig.enqueue(), "failed")
    assert effects == [1]
    assert [one.type for one in job.errors] == ["RuntimeError", "ambiguous"]


@ways(python_only=True)
async def test_once_tells_a_later_attempt_unless_the_effect_did_not_happen(rig: Rig) -> None:
    seen: list[bool] = []

    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> Retry | None:
        seen.append(await ctx.once("effect"))
        if len(seen) == 1:
            return Retry(0, "it did not happen")
        if len(seen) == 2:
            raise RuntimeError("who knows")
        return None

    await rig.run(work)
    await rig.reaches(await rig.enqueue(), "completed")
    assert seen == [True, True, False]


@ways(python_only=True)
async def test_progress_is_read_while_the_job_runs_and_after(rig: Rig) -> None:
    go_on = asyncio.Event()

    @handler("test")
    async def work(_args: dict[str, Any], ctx: Context) -> None:
        await ctx.progress({"row": 1})
        await go_on.wait()
        await ctx.progress({"row": 2})

    await rig.run(work)
    job_id = await rig.enqueue()

    async def told() -> bool:
        return bool((await rig.client.get_job(job_id)).progress == {"row": 1})

    await eventually(told, 10.0)
    go_on.set()
    assert (await rig.reaches(job_id, "completed")).progress == {"row": 2}


@ways(python_only=True)
async def test_a_plain_function_runs_beside_the_others(rig: Rig) -> None:
    @handler("slow")
    def slow(_args: dict[str, Any], _ctx: Context) -> dict[str, bool]:
        return {"done": quick_done.wait(10)}

    quick_done = threading.Event()

    @handler("quick")
    async def quick(_args: dict[str, Any], _ctx: Context) -> None:
        quick_done.set()

    await rig.run(slow, quick)
    waits = await rig.enqueue("slow")
    await rig.reaches(waits, "running", "completed")
    await rig.enqueue("quick")
    assert (await rig.reaches(waits, "completed")).result == {"done": True}
