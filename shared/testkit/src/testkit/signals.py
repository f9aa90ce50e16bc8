"""Waiting for what happens by itself: poll a condition until it holds, never sleep and hope."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

Answer = TypeVar("Answer")
FIRST_POLL_S = 0.005
LAST_POLL_S = 0.1


@overload
async def eventually(
    predicate: Callable[[], Awaitable[Answer]], within_s: float = ...
) -> Answer: ...


@overload
async def eventually(predicate: Callable[[], Answer], within_s: float = ...) -> Answer: ...


async def eventually(predicate: Callable[[], Any], within_s: float = 5.0) -> Any:
    """The first truthy answer of `predicate` (plain or async). It may also assert: an
    AssertionError means not yet. AssertionError with the last word after `within_s` seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    pause_s = FIRST_POLL_S
    while True:
        last: object
        failure: AssertionError | None = None
        try:
            last = answer = await _ask(predicate, deadline - loop.time())
            if answer:
                return answer
        except AssertionError as error:
            last, failure = error, error
        if loop.time() + pause_s > deadline:
            raise AssertionError(f"not within {within_s} s; last: {last!r}") from failure
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, LAST_POLL_S)


async def _ask(predicate: Callable[[], Any], left_s: float) -> Any:
    answer = predicate()
    if not inspect.isawaitable(answer):
        return answer
    try:
        async with asyncio.timeout(max(left_s, FIRST_POLL_S)) as bound:
            return await answer
    except TimeoutError as error:
        if not bound.expired():
            raise
        raise AssertionError("the condition itself took too long") from error
