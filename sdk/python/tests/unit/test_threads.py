"""Threads for plain functions: used again, and abandoned when their time is over."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from mainstay import handler
from mainstay.handler import Context
from mainstay.testing import Failed, run_job
from mainstay.threads import THREADS, Threads


async def test_results_and_errors_come_back_and_threads_are_used_again() -> None:
    threads, seen = Threads(), set[int]()
    where = contextvars.ContextVar("where", default="nowhere")
    where.set("here")

    def call(n: int) -> str:
        seen.add(threading.get_ident())
        if n == 3:
            raise KeyError(n)
        return where.get()

    for n in range(3):
        assert await threads.run(call, n) == "here"
        while not threads._idle:
            await asyncio.sleep(0)
    with pytest.raises(KeyError):
        await threads.run(call, 3)
    assert len(seen) == 1


async def test_as_many_run_at_once_as_are_called() -> None:
    threads, meet = Threads(), threading.Barrier(40, timeout=10)
    await asyncio.gather(*(threads.run(meet.wait) for _ in range(40)))


async def test_stop_iteration_is_an_error_like_any_other() -> None:
    with pytest.raises(RuntimeError):
        await Threads().run(next, iter(()))


async def test_one_that_goes_on_is_counted_until_it_ends() -> None:
    before, let_go = THREADS.abandoned, threading.Event()

    @handler.handler("stubborn", timeout_s=0.05)
    def stubborn(args: dict[str, Any], ctx: Context) -> None:
        let_go.wait(10)

    ended = await run_job(stubborn, {})
    assert isinstance(ended, Failed)
    assert ended.type == "timeout"
    assert THREADS.abandoned == before + 1
    let_go.set()
    async with asyncio.timeout(10):
        while THREADS.abandoned > before:
            await asyncio.sleep(0)
