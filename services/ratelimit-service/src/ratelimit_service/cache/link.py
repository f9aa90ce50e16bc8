"""One connection to Redis that never reconnects by itself: whoever loses it must ask again which
server process is there, because another one has forgotten what this one knew."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio as driver
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import NoScriptError

from chassis import logs

log = logs.get(__name__)


class Link:
    """Bounded by its caller. After any failure, a cut-off call included, it is closed."""

    def __init__(self, client: driver.Redis, script: str) -> None:
        self._client = client
        self._script = script.encode()
        self._digest = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()
        self._connection: AbstractConnection | None = None
        self._turn = asyncio.Lock()
        self.run_id: str | None = None

    async def open(self) -> str:
        """The run id of the server; connects unless connected."""
        if self.run_id is None:
            await self.close()
            make: Callable[[], AbstractConnection] = self._client.connection_pool.make_connection
            self._connection = connection = make()
            connect: Callable[[], Awaitable[None]] = connection.connect
            await connect()
            self.run_id = await self._who()
        return self.run_id

    async def _who(self) -> str:
        server = _facts(await self.call("INFO", "server"))
        memory = _facts(await self.call("INFO", "memory"))
        if memory.get("maxmemory", "0") != "0" and memory.get("maxmemory_policy") != "noeviction":
            # A bucket that is evicted is a full bucket.
            log.warning("redis_evicts", policy=memory.get("maxmemory_policy"))
            raise LostConnection("this Redis may drop keys when its memory is full")
        return server["run_id"]

    async def evaluate(self, run_id: str | None, keys: int, *args: bytes | str) -> bytes:
        """Run the script on this server process and no other."""
        async with self._turn:
            if run_id is None or self.run_id != run_id:
                raise LostConnection("another server")
            try:
                answer = await self._exchange("EVALSHA", self._digest, str(keys), *args)
            except NoScriptError:
                answer = await self._exchange("EVAL", self._script, str(keys), *args)
        return bytes(answer)

    async def call(self, *words: bytes | str) -> Any:
        async with self._turn:
            return await self._exchange(*words)

    async def _exchange(self, *words: bytes | str) -> Any:
        connection = self._connection
        if connection is None or not connection.is_connected:
            self.run_id = None
            raise LostConnection("not connected")
        try:
            await connection.send_packed_command(
                connection.pack_command(*words), check_health=False
            )
            return await connection.read_response(disable_decoding=True)
        except NoScriptError:
            raise
        except BaseException:
            # What is on the wire now belongs to nobody.
            await self.close()
            raise

    async def close(self) -> None:
        connection, self._connection, self.run_id = self._connection, None, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def _facts(info: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in info.decode().splitlines())
    return {name: value for name, _, value in pairs}
