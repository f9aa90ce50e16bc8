"""One attempt with a handler: its time, its marks, its name for every ending."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from chassis.kernel import errors
from chassis.kernel.clock import SystemClock
from mainstay import handler
from mainstay.children import NewJob, child_id
from queue_service.core.attempts import Claimed, Ending, Interrupted, Raised
from queue_service.core.context import JobContext, LeaseLost, Surroundings
from queue_service.core.execute import execute

from .test_attempts import JOB


class Leases:
    """Marks in memory; `fails` so many times before it answers."""

    def __init__(self, marks: dict[str, int] | None = None, *, fails: int = 0) -> None:
        self.marks = marks or {}
        self.fails = fails
        self.written: list[Mapping[str, Any]] = []
        self.lost = False

    async def mark(self, job_id: UUID, lease_no: int, name: str) -> int | None:
        if self.fails:
            self.fails -= 1
            raise errors.Unavailable("away")
        return None if self.lost else self.marks.setdefault(name, lease_no)

    async def progress(self, job_id: UUID, lease_no: int, value: Mapping[str, Any]) -> None:
        if self.fails and self.written:
            raise errors.Unavailable("away")
        self.written.append(value)


class Lookups:
    async def checkpoint(self, job_id: UUID) -> Any:
        return {"row": 3}

    async def waiting(self, queue: str, shop: str, *, limit: int) -> int:
        return limit


class Offspring:
    async def put(self, parent: handler.JobInfo, jobs: Sequence[NewJob]) -> list[UUID]:
        return [child_id(parent.id, parent.created_at, job.name) for job in jobs]


class Limiter:
    async def reserve(self, policy: str, **_asked: Any) -> handler.Reservation:
        return handler.Reservation(allowed=True)


def surroundings(leases: Leases | None = None) -> Surroundings:
    return Surroundings(
        http=None,
        outside=None,
        environ={},
        leases=leases or Leases(),
        lookups=Lookups(),
        offspring=Offspring(),
        limiter=Limiter(),
        clock=SystemClock(),
        log=logging.getLogger("test"),
    )


async def run(
    of: handler.Handler[Any],
    *,
    leases: Leases | None = None,
    job: Claimed = JOB,
    is_mine: bool = True,
) -> Ending:
    ctx = JobContext(job, of, surroundings(leases), lambda _job: is_mine)
    return (await execute(of, job, ctx, clock=SystemClock())).ending


def of(call: Any, **options: Any) -> handler.Handler[Any]:
    made: handler.Handler[Any] = handler.handler("test", **options)(call)
    return made


async def test_what_a_handler_returns_is_the_outcome_sync_or_async() -> None:
    async def one(args: Any, ctx: handler.Context) -> dict[str, int]:
        return {"n": 1}

    def other(args: Any, ctx: handler.Context) -> handler.Snooze:
        return handler.Snooze(2)

    assert await run(of(one)) == handler.Completed({"n": 1})
    assert await run(of(other)) == handler.Snooze(2)


async def test_every_exception_is_an_ending_with_its_name() -> None:
    def raising(error: Exception) -> handler.Handler[Any]:
        async def call(args: Any, ctx: handler.Context) -> None:
            raise error

        return of(call)

    assert await run(raising(ValueError("odd"))) == Raised("ValueError", "odd", True)
    assert await run(raising(handler.Permanent("no"))) == Raised("permanent", "no", False)
    assert await run(raising(handler.Ambiguous("?"))) == Raised("ambiguous", "?", False)
    assert await run(raising(TimeoutError("mine"))) == Raised("TimeoutError", "mine", True)
    assert await run(raising(errors.Unavailable("gone"))) == Raised("unavailable", "gone", True)


async def test_args_that_do_not_fit_are_final() -> None:
    class Args(BaseModel):
        n: int

    async def call(args: Args, ctx: handler.Context) -> None: ...

    ending = await run(of(call, args=Args))
    assert isinstance(ending, Raised)
    assert (ending.type, ending.retryable) == ("invalid_args", False)


async def test_a_handler_that_takes_too_long_is_stopped() -> None:
    async def call(args: Any, ctx: handler.Context) -> None:
        await asyncio.Event().wait()

    ending = await run(of(call, timeout_s=0.01))
    assert ending == Raised("timeout", "not done within 0.01 s", True)


async def test_an_interrupted_handler_goes_back() -> None:
    started = asyncio.Event()

    async def call(args: Any, ctx: handler.Context) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(run(of(call)))
    await started.wait()
    task.cancel()
    assert await task == Interrupted()


async def once(args: Any, ctx: handler.Context) -> dict[str, bool]:
    return {"first": await ctx.once("send")}


async def test_once_is_true_the_first_time_and_ambiguous_or_false_the_second() -> None:
    assert await run(of(once)) == handler.Completed({"first": True})
    earlier = {"send": JOB.lease_no - 1}
    assert await run(of(once), leases=Leases(dict(earlier))) == handler.Completed({"first": False})
    ending = await run(of(once, delivery="at_most_once"), leases=Leases(dict(earlier)))
    assert isinstance(ending, Raised)
    assert (ending.type, ending.retryable) == ("ambiguous", False)


async def test_a_mark_whose_answer_was_lost_is_asked_for_again() -> None:
    assert await run(of(once), leases=Leases(fails=2)) == handler.Completed({"first": True})
    ending = await run(of(once), leases=Leases(fails=3))
    assert isinstance(ending, Raised)
    assert ending.type == "unavailable"


async def test_without_the_lease_nothing_outside_happens() -> None:
    lost = Leases()
    lost.lost = True
    with pytest.raises(LeaseLost):
        await run(of(once), leases=lost)
    with pytest.raises(LeaseLost):
        await run(of(once), is_mine=False)


async def test_progress_is_throttled_and_its_last_word_is_kept() -> None:
    async def call(args: Any, ctx: handler.Context) -> None:
        for n in range(50):
            await ctx.progress({"n": n})

    leases = Leases()
    await run(of(call), leases=leases)
    assert leases.written == [{"n": 0}, {"n": 49}]


async def test_what_an_earlier_attempt_left_and_what_waits_can_be_asked() -> None:
    async def call(args: Any, ctx: handler.Context) -> Any:
        return {"left": await ctx.checkpoint(), "waiting": await ctx.waiting("sms", limit=7)}

    assert await run(of(call)) == handler.Completed({"left": {"row": 3}, "waiting": 7})


async def test_a_new_job_has_the_same_id_in_every_attempt_and_each_name_one_job() -> None:
    made: list[UUID] = []

    async def call(args: Any, ctx: handler.Context) -> None:
        made.append(await ctx.enqueue("sms.send", {"to": "x"}, name="hello"))
        made.extend(await ctx.enqueue_many([NewJob(name=str(n), kind="k") for n in range(3)]))
        await ctx.enqueue("sms.send", name="hello")

    for _ in range(2):
        ended = await run(of(call))
        assert isinstance(ended, Raised)
        assert "'hello' names two new jobs" in ended.message
    assert made[:4] == made[4:]
    assert len(set(made)) == 4
    assert {one.version for one in made} == {7}


async def test_without_the_lease_no_job_is_made() -> None:
    async def call(args: Any, ctx: handler.Context) -> None:
        await ctx.enqueue("k", name="n")

    with pytest.raises(LeaseLost):
        await run(of(call), is_mine=False)


async def test_progress_has_its_size() -> None:
    async def call(args: Any, ctx: handler.Context) -> None:
        await ctx.progress({"much": "x" * 70_000})

    ended = await run(of(call))
    assert isinstance(ended, Raised)
    assert ended.type == "ValueError"


def test_a_context_costs_little() -> None:
    """Thousands are made a second: far below what any of its parts would cost (about 1 µs)."""

    async def call(args: Any, ctx: handler.Context) -> None: ...

    one, around = of(call), surroundings()

    def of_a_thousand() -> float:
        started = time.process_time()
        for _ in range(1000):
            JobContext(JOB, one, around, bool)
        return (time.process_time() - started) * 1000

    assert min(of_a_thousand() for _ in range(20)) < 4.0, "µs each"


@pytest.mark.parametrize(
    ("outcome", "ending"),
    [
        (handler.Completed({"done": 1}), handler.Completed({"done": 1})),
        (handler.Snooze(5.0), Raised("unavailable", "away", True)),
    ],
)
async def test_what_is_done_is_done_though_its_last_progress_is_lost(
    outcome: handler.Outcome, ending: Ending
) -> None:
    async def call(args: Any, ctx: handler.Context) -> handler.Outcome:
        await ctx.progress({"row": 1})
        await ctx.progress({"row": 2})
        return outcome

    assert await run(of(call), leases=Leases(fails=1)) == ending
