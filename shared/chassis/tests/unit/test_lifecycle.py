"""Loops go on whatever a pass does; tasks that end by themselves are noticed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from chassis import lifecycle, metrics
from testkit.signals import eventually


class Counting(lifecycle.Loop):
    """`passes_to_do` says what each pass does; after them there is nothing more to do."""

    name = "counting"
    interval_s = 3600.0

    def __init__(self, *passes_to_do: Callable[[], bool]) -> None:
        super().__init__()
        self._to_do = list(passes_to_do)
        self.begun = 0

    async def run_once(self) -> bool:
        self.begun += 1
        return self._to_do.pop(0)() if self._to_do else False


def broken() -> bool:
    raise ConnectionError("no database")


def more() -> bool:
    return True


@pytest_asyncio.fixture
async def supervisor() -> AsyncIterator[lifecycle.Supervisor]:
    made = lifecycle.Supervisor()
    yield made
    await made.stop()


async def test_passes_follow_at_once_while_there_is_more(
    supervisor: lifecycle.Supervisor,
) -> None:
    loop = Counting(more, more)
    supervisor.start(loop)
    await eventually(lambda: loop.passes == 3)


async def test_a_wake_up_ends_the_rest_and_many_are_one(supervisor: lifecycle.Supervisor) -> None:
    loop = Counting()
    supervisor.start(loop)
    await eventually(lambda: loop.passes == 1)
    for _ in range(5):
        loop.wake()
    await eventually(lambda: loop.passes == 2)
    await asyncio.sleep(0)
    assert loop.begun == 2


async def test_a_wake_up_during_a_pass_is_not_lost(supervisor: lifecycle.Supervisor) -> None:
    def woken_meanwhile() -> bool:
        loop.wake()
        return False

    loop = Counting(woken_meanwhile)
    supervisor.start(loop)
    await eventually(lambda: loop.passes == 2)


async def test_a_failed_pass_is_counted_and_tried_again(
    supervisor: lifecycle.Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "BACKOFF_BASE_S", 0.001)
    failed = metrics.LOOP_PASSES.labels("counting", "failed")
    before = failed._value.get()
    loop = Counting(broken, broken)
    supervisor.start(loop)
    await eventually(lambda: loop.passes == 3)
    assert failed._value.get() - before == 2
    assert not supervisor.failed.is_set()


async def test_a_loop_that_does_not_begin_passes_is_stalled(
    supervisor: lifecycle.Supervisor,
) -> None:
    loop = Counting()
    supervisor.start(loop)
    await eventually(lambda: loop.passes == 1)
    assert supervisor.stalled() == []
    loop.beat -= lifecycle.STALL_S + 2 * loop.interval_s + 1
    assert supervisor.stalled() == ["counting"]


async def _returns() -> None:
    return


async def _raises() -> None:
    raise RuntimeError("a bug")


async def _cancels_itself() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("work", [_returns, _raises, _cancels_itself])
async def test_a_task_that_ends_by_itself_is_a_failure(
    supervisor: lifecycle.Supervisor, work: Callable[[], Awaitable[None]]
) -> None:
    supervisor.spawn("short", work())  # type: ignore[arg-type]  # coroutines, all three
    async with asyncio.timeout(1):
        await supervisor.failed.wait()


async def test_stopping_is_no_failure_and_may_be_repeated() -> None:
    supervisor = lifecycle.Supervisor()
    loop = Counting()
    supervisor.start(loop)
    await eventually(lambda: loop.passes == 1)
    await supervisor.stop()
    await supervisor.stop()
    assert not supervisor.failed.is_set()
    assert loop._wake is not None


async def test_a_task_that_refuses_to_end_does_not_hold_up_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    free = asyncio.Event()

    async def stubborn() -> None:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue

    supervisor = lifecycle.Supervisor()
    supervisor.spawn("stubborn", stubborn())
    await asyncio.sleep(0)
    (task,) = supervisor._tasks.values()
    await supervisor.stop(timeout_s=0.02)
    assert not task.done()
    free.set()
    await task
