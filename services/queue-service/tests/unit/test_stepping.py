"""Work whose first step is a plain call ends as it would have ended when awaited."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from queue_service.core.stepping import resumed


async def carried_on(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        return done.value
    return await resumed(work, waits_for)


async def test_what_never_waits_is_over_after_one_step() -> None:
    async def work() -> int:
        return 7

    with pytest.raises(StopIteration) as stop:
        work().send(None)
    assert stop.value.value == 7


async def test_what_waits_gets_what_it_waits_for() -> None:
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))

    async def work() -> list[int]:
        return [await first, await asyncio.sleep(0, 2), await second]

    asyncio.get_running_loop().call_soon(first.set_result, 1)
    asyncio.get_running_loop().call_soon(second.set_result, 3)
    assert await carried_on(work()) == [1, 2, 3]


async def test_an_error_in_what_it_waits_for_is_the_works_to_handle() -> None:
    broken = asyncio.get_running_loop().create_future()
    broken.set_exception(LookupError("gone"))

    async def work() -> str:
        await asyncio.sleep(0)
        try:
            await broken
        except LookupError as error:
            await asyncio.sleep(0)
            return str(error)
        return "not told"

    assert await carried_on(work()) == "gone"


async def test_a_cancellation_reaches_the_work_and_its_last_words_are_heard() -> None:
    said: list[str] = []
    begun = asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            said.append("good-bye")

    task = asyncio.create_task(carried_on(work()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["good-bye"]


async def test_its_own_time_limit_set_in_the_first_step_holds() -> None:
    async def work() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return "in time"
        return "never"

    async with asyncio.timeout(5):
        assert await carried_on(work()) == "in time"


async def test_it_stays_in_the_task_of_its_first_step() -> None:
    async def work() -> set[asyncio.Task[Any] | None]:
        tasks = {asyncio.current_task()}
        await asyncio.sleep(0)
        return tasks | {asyncio.current_task()}

    assert await carried_on(work()) == {asyncio.current_task()}
