"""Answers that are remembered, for callers who say how old they may be."""

import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from mainstay.shopify.received import Received, received

MAX_BYTES = 16 * 1024 * 1024


class Responses(Protocol):
    """Where answers are remembered. A failure of the store is a miss, never an error."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, answer: bytes, ttl_s: float) -> None: ...


class MemoryResponses:
    """In this process, up to `max_bytes` of answers; the one unused for longest goes first."""

    def __init__(
        self, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        until, answer = self._kept.get(key, (0.0, None))
        if answer is None:
            return None
        if self._clock() >= until:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return answer

    async def put(self, key: str, answer: bytes, ttl_s: float) -> None:
        self._drop(key)
        if ttl_s <= 0 or len(answer) > self._max_bytes:
            return
        self._kept[key] = (self._clock() + ttl_s, answer)
        self._bytes += len(answer)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        _, answer = self._kept.pop(key, (0.0, b""))
        self._bytes -= len(answer)


def packed(answer: Received) -> bytes:
    said = {
        "at": time.time(),
        "status": answer.status,
        "headers": dict(answer.headers),
        "body": answer.body.decode(),
    }
    return json.dumps(said, ensure_ascii=False).encode()


def unpacked(kept: bytes | None, max_age_s: float) -> Received | None:
    """None when there is nothing, or nothing young enough."""
    if kept is None:
        return None
    said = json.loads(kept)
    if not 0 <= time.time() - said["at"] <= max_age_s:
        return None
    return received(said["status"], said["headers"], said["body"].encode())
