"""Where answers of the Admin API lie for those who take one of before: sealed in Redis, else within
bounds in this process.
"""

from chassis.crypto import Keyring
from chassis.redis import Accelerator
from chassis.shelf import SealedShelf
from mainstay.shopify.responses import MemoryResponses

PREFIX = "session:admin:1:"


class RedisShelf:
    backend = "redis"

    def __init__(self, accelerator: Accelerator, keyring: Keyring) -> None:
        self._shelf = SealedShelf(accelerator, keyring, prefix=PREFIX)

    async def get(self, name: str) -> bytes | None:
        text = await self._shelf.get(name)
        return None if text is None else text.encode()

    async def put(self, name: str, kept: bytes, *, ttl_s: int) -> None:
        await self._shelf.put(name, kept.decode(), ttl_s=ttl_s)


class MemoryShelf:
    backend = "memory"

    def __init__(self) -> None:
        self._kept = MemoryResponses()

    async def get(self, name: str) -> bytes | None:
        return await self._kept.get(name)

    async def put(self, name: str, kept: bytes, *, ttl_s: int) -> None:
        await self._kept.put(name, kept, ttl_s)
