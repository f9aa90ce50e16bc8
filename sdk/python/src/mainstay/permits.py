"""Holding one of so many while a block runs."""

import asyncio
from collections.abc import Awaitable, Callable

from mainstay import errors

# Renewed when so much of its time is over; after a failure so much later again.
RENEW_AT, AGAIN_AFTER = 0.4, 0.1

# Given a time limit in seconds: is it still held?
Renew = Callable[[float], Awaitable[bool]]


class Renewal:
    """Renews a permit, taken `since` by the clock of the loop, while its block runs; cancels it
    once nobody can say that it is held."""

    def __init__(self, renew: Renew, ttl_s: float, *, since: float) -> None:
        self._renew = renew
        self._held_until = since + ttl_s
        self._ttl_s = ttl_s
        self._lost = ""

    async def __aenter__(self) -> None:
        block = asyncio.current_task()
        if block is None:
            raise RuntimeError("a permit is held by a task")
        self._block = block
        self._task = asyncio.create_task(self._run())

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._lost and kind is asyncio.CancelledError and self._block.uncancel() == 0:
            raise errors.Unavailable(self._lost, code="permit_lost")

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        pause_s = self._ttl_s * RENEW_AT
        while True:
            await asyncio.sleep(min(pause_s, max(0.0, self._held_until - clock())))
            asked_at = clock()
            if asked_at >= self._held_until:
                return self._lose("it could not be renewed in time")
            try:
                is_held = await self._renew(self._held_until - asked_at)
            except errors.ApiError:
                pause_s = self._ttl_s * AGAIN_AFTER
                continue
            if not is_held:
                return self._lose("it was taken back")
            self._held_until = asked_at + self._ttl_s
            pause_s = self._ttl_s * RENEW_AT

    def _lose(self, why: str) -> None:
        self._lost = f"the permit is lost: {why}"
        self._block.cancel()
