"""Texts that lie in Redis for a while, sealed: who reads Redis learns nothing of them, and one that
was altered or moved to another name is none."""

from typing import Any

from chassis.crypto import Keyring, SealBroken
from chassis.kernel import errors
from chassis.redis import Accelerator, Missed


class SealedShelf:
    """Keys begin with `prefix`, its own. Raises Unavailable while Redis is away."""

    def __init__(self, accelerator: Accelerator, keyring: Keyring, *, prefix: str) -> None:
        self._accelerator = accelerator
        self._keyring = keyring
        self._prefix = prefix

    async def get(self, name: str) -> str | None:
        try:
            sealed: Any = await self._accelerator.call(
                lambda client: client.get(self._prefix + name)
            )
        except Missed as error:
            raise _away() from error
        if sealed is None:
            return None
        try:
            return self._keyring.open(bytes(sealed).decode(errors="replace"), self._prefix, name)
        except SealBroken:
            return None

    async def put(self, name: str, text: str, *, ttl_s: int) -> None:
        sealed = self._keyring.seal(text, self._prefix, name)
        try:
            await self._accelerator.call(
                lambda client: client.set(self._prefix + name, sealed, ex=ttl_s)
            )
        except Missed as error:
            raise _away() from error


def _away() -> errors.Unavailable:
    return errors.Unavailable("redis is away")
