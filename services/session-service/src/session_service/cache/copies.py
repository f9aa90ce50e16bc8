"""Sealed copies in Redis, each under its version: an older one never takes a newer one's place.

A deletion leaves a mark for as long as a copy could live, so that a slow reader cannot bring back
what is gone. What Redis could not be told of is owed and told again; see `settle`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from chassis.redis import Accelerator, Missed
from session_service.core.copying import LIFE_MS
from session_service.core.ports import Gone

# More in one round trip than Redis does within its budget would open the circuit.
CHUNK = 500
MAX_OWED = 10_000
# A copy that is missed is a store logged out later, so a little patience; the circuit bounds it.
WRITE_S = 0.2
# Copies are asked for when nothing else can answer, by everybody at once.
LAST_RESORT_S = 0.5
# A crowd takes turns on connections that are there: opening one for each would cost it its answer.
READERS = 4
PREFIX = "session:1:"

# A value is "<version>:<text>"; of a deleted session the text is empty. Stale answers when asked
# for are judged by the reader, which finds the date inside the seal.
PUT_IF_NEWER = """
local held = redis.call('GET', KEYS[1])
if held and tonumber(string.match(held, '^%d+') or 0) > tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
return 1
"""


class RedisCopies:
    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._owed: dict[str, int] = {}
        self._turn = asyncio.Semaphore(READERS)

    @property
    def is_present(self) -> bool:
        return self._accelerator.client is not None

    async def keep(self, copies: Sequence[tuple[str, int, str]]) -> bool:
        try:
            await self._put(copies)
        except Missed:
            return False
        return True

    async def find(self, session_id: str) -> str | None:
        try:
            async with self._turn:
                held: Any = await self._accelerator.call(
                    _getting(PREFIX + session_id), budget_s=LAST_RESORT_S
                )
        except Missed:
            return None
        if held is None:
            return None
        return bytes(held).decode(errors="replace").partition(":")[2] or None

    async def forget(self, gone: Sequence[Gone]) -> None:
        for each in gone:
            self._owed[each.id] = each.version
        while len(self._owed) > MAX_OWED:
            del self._owed[next(iter(self._owed))]
        await self.settle()

    async def settle(self) -> None:
        everything = list(self._owed.items())
        for start in range(0, len(everything), CHUNK):
            owed = everything[start : start + CHUNK]
            try:
                await self._put([(session_id, version, "") for session_id, version in owed])
            except Missed:
                return
            for session_id, version in owed:
                if self._owed.get(session_id) == version:
                    del self._owed[session_id]

    async def _put(self, values: Sequence[tuple[str, int, str]]) -> None:
        async def send(client: Any) -> None:
            async with client.pipeline(transaction=False) as pipe:
                for session_id, version, text in values:
                    pipe.eval(PUT_IF_NEWER, 1, PREFIX + session_id, version, text, LIFE_MS)
                await pipe.execute()

        await self._accelerator.call(send, budget_s=WRITE_S)


def _getting(key: str) -> Callable[[Any], Awaitable[Any]]:
    async def get(client: Any) -> Any:
        return await client.get(key)

    return get
