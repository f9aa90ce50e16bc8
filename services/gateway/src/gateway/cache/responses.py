"""Where cached answers lie: sealed in Redis, or bounded in this process."""

import base64
from collections import OrderedDict

import orjson

from chassis.crypto import Keyring
from chassis.redis import Accelerator
from chassis.shelf import SealedShelf
from gateway.core.ports import Kept

PREFIX = "gw:cache:"
OVERHEAD_BYTES = 512


class RedisShelf:
    backend = "redis"

    def __init__(self, accelerator: Accelerator, keyring: Keyring) -> None:
        self._shelf = SealedShelf(accelerator, keyring, prefix=PREFIX)

    async def get(self, name: str) -> Kept | None:
        text = await self._shelf.get(name)
        try:
            return None if text is None else _read(text)
        except (ValueError, KeyError, TypeError):
            return None

    async def put(self, name: str, kept: Kept, *, ttl_s: int) -> None:
        await self._shelf.put(name, _written(kept), ttl_s=ttl_s)


class MemoryShelf:
    """Forgets what was not used for longest once `capacity` bytes are over."""

    backend = "memory"

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0

    async def get(self, name: str) -> Kept | None:
        kept = self._kept.get(name)
        if kept is not None:
            self._kept.move_to_end(name)
        return kept

    async def put(self, name: str, kept: Kept, *, ttl_s: int) -> None:
        del ttl_s  # its reader looks at the age
        self._drop(name)
        self._kept[name] = kept
        self._bytes += _size(kept)
        while self._bytes > self._capacity:
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._bytes -= _size(kept)


def _size(kept: Kept) -> int:
    return len(kept.body) + OVERHEAD_BYTES


def _written(kept: Kept) -> str:
    return orjson.dumps(
        {
            "status": kept.status,
            "headers": kept.headers,
            "body": base64.b64encode(kept.body).decode(),
            "stored_at": kept.stored_at,
        }
    ).decode()


def _read(text: str) -> Kept:
    given = orjson.loads(text)
    return Kept(
        status=given["status"],
        headers=tuple((name, value) for name, value in given["headers"]),
        body=base64.b64decode(given["body"]),
        stored_at=given["stored_at"],
    )
