"""Where answers of the Admin API lie for those who take one of before: sealed in Redis, else within
bounds in this process.
"""

from typing import Any

from chassis.crypto import Keyring, SealBroken
from chassis.kernel import errors
from chassis.redis import Accelerator, Missed
from mainstay.shopify.responses import MemoryResponses

PREFIX = "session:admin:1:"
IDENTITY = "shopify_admin_answer"


class RedisShelf:
    backend = "redis"

    def __init__(self, accelerator: Accelerator, keyring: Keyring) -> None:
        self._accelerator = accelerator
        self._keyring = keyring

    async def get(self, name: str) -> bytes | None:
        try:
            sealed: Any = await self._accelerator.call(lambda client: client.get(PREFIX + name))
        except Missed as error:
            raise errors.Unavailable("redis is away") from error
        if sealed is None:
            return None
        try:
            return self._keyring.open(
                bytes(sealed).decode(errors="replace"), IDENTITY, name
            ).encode()
        except SealBroken:
            return None

    async def put(self, name: str, kept: bytes, *, ttl_s: int) -> None:
        sealed = self._keyring.seal(kept.decode(), IDENTITY, name)
        try:
            await self._accelerator.call(lambda client: client.set(PREFIX + name, sealed, ex=ttl_s))
        except Missed as error:
            raise errors.Unavailable("redis is away") from error


class MemoryShelf:
    backend = "memory"

    def __init__(self) -> None:
        self._kept = MemoryResponses()

    async def get(self, name: str) -> bytes | None:
        return await self._kept.get(name)

    async def put(self, name: str, kept: bytes, *, ttl_s: int) -> None:
        await self._kept.put(name, kept, ttl_s)
