"""The hands of one queue, with claims answered from memory."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from chassis.kernel.clock import SystemClock
from mainstay.handler import Context, Handler, handler
from queue_service.core.attempts import Claimed, Settlement, Status
from queue_service.core.context import IsMine, JobContext
from queue_service.core.leasing import Claim, WorkerQueue
from queue_service.loops.attempts import Attempts
from queue_service.loops.producer import Producer

from .test_attempts import JOB
from .test_execute import surroundings

AROUND = surroundings()


class Claims:
    def __init__(self, count: int) -> None:
        self.left = deque(JOB._replace(id=uuid4()) for _ in range(count))
        self.settled: list[Settlement] = []

    async def worker_queues(self) -> list[WorkerQueue]:
        return []

    async def settle_and_claim(
        self, settlements: Sequence[Settlement], claim: Claim
    ) -> tuple[list[Status], list[Claimed], list[int]]:
        await asyncio.sleep(0)
        self.settled += settlements
        jobs = [self.left.popleft() for _ in range(min(claim.want, len(self.left)))]
        return [Status.SETTLED] * len(settlements), jobs, []

    async def settle(self, settlements: Sequence[Settlement]) -> list[Status]:
        self.settled += settlements
        return [Status.SETTLED] * len(settlements)

    async def wake(self, lanes: Sequence[int]) -> bool:
        return False


def context(job: Claimed, of: Handler[Any] | None, is_mine: IsMine) -> JobContext:
    return JobContext(job, of, AROUND, is_mine)


@asynccontextmanager
async def at_work(claims: Claims, of: Handler[Any], *, concurrency: int) -> AsyncIterator[Producer]:
    attempts = Attempts(
        handlers={JOB.kind: of},
        store=claims,
        context_of=context,
        is_believed=lambda: True,
        clock=SystemClock(),
    )
    worker = UUID(int=1)
    producer = Producer(
        WorkerQueue("default", concurrency, None),
        claims=claims,
        attempts=attempts,
        worker=lambda: worker,
        poll_interval_s=0.01,
    )
    task = asyncio.create_task(producer.run_forever())
    try:
        async with asyncio.timeout(10):
            yield producer
    finally:
        await producer.drain(grace_s=1, interrupt_s=1)
        task.cancel()


async def until_settled(claims: Claims, count: int) -> None:
    while len(claims.settled) < count:
        await asyncio.sleep(0)


async def test_jobs_that_wait_run_beside_each_other_up_to_the_concurrency() -> None:
    claims, together, all_there = Claims(12), 0, asyncio.Event()

    @handler(JOB.kind)
    async def meets(_args: dict[str, Any], _ctx: Context) -> None:
        nonlocal together
        together += 1
        if together == 5:
            all_there.set()
        await all_there.wait()
        together -= 1

    async with at_work(claims, meets, concurrency=5):
        await until_settled(claims, 12)
    assert {one.verb.value for one in claims.settled} == {"completed"}


async def test_never_more_run_at_once_than_the_concurrency() -> None:
    claims, running, most = Claims(40), 0, 0

    @handler(JOB.kind)
    async def counts(_args: dict[str, Any], _ctx: Context) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    async with at_work(claims, counts, concurrency=3):
        await until_settled(claims, 40)
    assert most == 3


async def test_jobs_that_never_wait_need_one_hand() -> None:
    claims, hands = Claims(200), set()

    @handler(JOB.kind)
    async def quick(_args: dict[str, Any], _ctx: Context) -> None:
        hands.add(asyncio.current_task())

    async with at_work(claims, quick, concurrency=20):
        await until_settled(claims, 200)
    assert len(hands) == 1


async def test_one_that_waits_does_not_hold_up_the_quick_ones() -> None:
    claims, release = Claims(50), asyncio.Event()
    slow = claims.left[0].id

    @handler(JOB.kind)
    async def mixed(_args: dict[str, Any], ctx: Context) -> None:
        if ctx.job.id == slow:
            await release.wait()

    async with at_work(claims, mixed, concurrency=2):
        await until_settled(claims, 49)
        release.set()
        await until_settled(claims, 50)
    assert claims.settled[-1].id == slow


async def test_a_drain_interrupts_what_will_not_end_and_gives_back_what_has_not_started() -> None:
    claims, begun = Claims(4), asyncio.Event()

    @handler(JOB.kind)
    async def endless(_args: dict[str, Any], _ctx: Context) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    async with at_work(claims, endless, concurrency=2) as producer:
        await begun.wait()
        await producer.drain(grace_s=0.05, interrupt_s=2)
        assert {one.verb.value for one in claims.settled} == {"release"}


async def test_a_hand_whose_handler_does_not_stop_is_replaced() -> None:
    claims, never = Claims(3), asyncio.Event()
    stubborn = claims.left[0].id

    @handler(JOB.kind, timeout_s=0.01)
    async def stays(_args: dict[str, Any], ctx: Context) -> None:
        while ctx.job.id == stubborn and not never.is_set():
            try:
                await never.wait()
            except asyncio.CancelledError:
                continue

    async with at_work(claims, stays, concurrency=1) as producer:
        while not await producer._attempts.abandon(overdue_s=0.0):
            await asyncio.sleep(0.01)
        await until_settled(claims, 3)
        assert producer.free == 1
        assert [one.verb.value for one in claims.settled] == ["retry", "completed", "completed"]
        never.set()


async def test_what_came_by_two_ways_and_cannot_start_soon_goes_back() -> None:
    claims, release = Claims(2), asyncio.Event()

    @handler(JOB.kind)
    async def waits(_args: dict[str, Any], _ctx: Context) -> None:
        await release.wait()

    async with at_work(claims, waits, concurrency=2) as producer:
        while producer.free:
            await asyncio.sleep(0)
        producer.hand(JOB._replace(id=uuid4()) for _ in range(3))
        await until_settled(claims, 3)
        assert {one.verb.value for one in claims.settled} == {"release"}
        release.set()
        await until_settled(claims, 5)
