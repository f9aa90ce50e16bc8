"""Offers over Redis: one list of job ids for each queue, fed only while somebody waits at it.

Below `mainstay:q:`, `waiting:<queue>` says that somebody waits, and runs out when he goes;
`offers:<queue>` holds ids, 16 bytes each, a bounded number for a few seconds; `stir:<waiter>` wakes
one waiter. None of it is the record: what is lost here is found by looking, and what lies here may
be wrong in every way.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import redis.asyncio as driver
from redis.exceptions import RedisError, ResponseError

from chassis import logs
from chassis import redis as accelerators
from chassis.kernel import breaker
from queue_service.core.dispatch import Missed, Offer, Switch

log = logs.get(__name__)

PREFIX = b"mainstay:q:"
ID_BYTES = 16
# Of one queue in Redis, and in one announcement: more is a backlog, which is claimed by lanes.
MAX_OFFERED = 256
MAX_ANNOUNCED = 64
OFFERED_MS = 3000
# Waiting is said anew with each wait; it outlives one a little.
WAITING_MARGIN_S = 1.5
# A wait that is not answered so much after its end is not answered at all.
OVERDUE_S = 0.5
ANNOUNCE = Path(__file__).with_name("announce.lua").read_text()


def waiting_key(queue: str) -> bytes:
    return PREFIX + b"waiting:" + queue.encode()


def offers_key(queue: str) -> bytes:
    return PREFIX + b"offers:" + queue.encode()


def circuit_of(switch: Switch) -> Callable[[str, breaker.State], None]:
    """For the circuit to Redis: what its changes mean."""

    def on_change(_name: str, state: breaker.State) -> None:
        switch.saw(state is breaker.State.CLOSED)

    return on_change


async def watched(redis: accelerators.Accelerator, switch: Switch) -> accelerators.Presence:
    """Ask once, for health and for the switch."""
    answers, presence = await redis.answers(), redis.presence()
    switch.saw(answers and presence is accelerators.Presence.UP)
    return presence


class RedisAnnouncer:
    """Off the caller's path: what gathers while Redis is being told is told next, and what is too
    much is not told. `run()` belongs under a Supervisor."""

    def __init__(self, redis: accelerators.Accelerator) -> None:
        self._redis = redis
        self._told: dict[str, list[UUID]] = {}
        self._arrived = asyncio.Event()
        self._script: Any = None

    def announce(self, queue: str, job_ids: Sequence[UUID]) -> None:
        kept = self._told.setdefault(queue, [])
        kept.extend(job_ids[: MAX_ANNOUNCED - len(kept)])
        self._arrived.set()

    async def run(self) -> None:
        while True:
            await self._arrived.wait()
            try:
                await self.run_once()
            except Exception as error:
                # Whatever the driver means by it: jobs are found without being told of.
                log.warning("announce_failed", exc_info=error)

    async def run_once(self) -> None:
        self._arrived.clear()
        told, self._told = self._told, {}
        try:
            await self._redis.call(lambda client: self._push(client, told))
        except accelerators.Missed:
            return  # they will be found by looking

    async def _push(self, client: driver.Redis, told: Mapping[str, Sequence[UUID]]) -> None:
        if self._script is None:
            self._script = client.register_script(ANNOUNCE)
        for queue, job_ids in told.items():
            await self._script(
                keys=[waiting_key(queue), offers_key(queue)],
                args=[MAX_OFFERED, OFFERED_MS, *(one.bytes for one in job_ids)],
            )


class RedisOffers:
    """`connect()` gives clients with one connection, to wait on; everything else goes through the
    circuit."""

    def __init__(
        self, redis: accelerators.Accelerator, connect: Callable[[], driver.Redis]
    ) -> None:
        self._redis = redis
        self._connect = connect
        self._waiter = connect()
        self._stir_key = PREFIX + b"stir:" + uuid4().bytes
        self._refusals = 0

    async def take(self, rooms: Mapping[str, int], *, wait_s: float) -> Offer | None:
        keys = {offers_key(queue): queue for queue in rooms}
        try:
            await self._call(lambda client: self._say_waiting(client, rooms, wait_s))
            popped = await self._wait([self._stir_key, *keys], wait_s)
            if popped is None or popped[0] not in keys:
                return None
            queue = keys[popped[0]]
            entries = [popped[1]]
            if rooms[queue] > 1:
                entries += (
                    await self._call(lambda client: client.lpop(popped[0], rooms[queue] - 1)) or []
                )
        except ResponseError as error:
            await self._clear_away(error, [self._stir_key, *keys])
            raise Missed(type(error).__name__) from error
        self._refusals = 0
        return await self._read(queue, entries)

    async def give_back(self, offer: Offer) -> None:
        """In front of the others, unless they have run out by now."""
        entries = [one.bytes for one in reversed(offer.job_ids)]
        key = offers_key(offer.queue)

        async def push(client: driver.Redis) -> None:
            pipe = client.pipeline(transaction=True)
            pipe.lpush(key, *entries)
            pipe.ltrim(key, 0, MAX_OFFERED - 1)
            pipe.pexpire(key, OFFERED_MS)
            await pipe.execute()

        await self._call(push)

    async def forget(self, queue: str) -> None:
        await self._call(lambda client: client.unlink(offers_key(queue)))

    async def stir(self) -> None:
        async def push(client: driver.Redis) -> None:
            pipe = client.pipeline(transaction=True)
            pipe.rpush(self._stir_key, b"")
            pipe.pexpire(self._stir_key, OFFERED_MS)
            await pipe.execute()

        await self._call(push)

    async def close(self) -> None:
        await accelerators.Accelerator(self._waiter).close()

    async def _say_waiting(
        self, client: driver.Redis, queues: Mapping[str, int], wait_s: float
    ) -> None:
        pipe = client.pipeline(transaction=False)
        for queue in queues:
            pipe.set(waiting_key(queue), b"", px=int(1000 * (wait_s + WAITING_MARGIN_S)))
        await pipe.execute()

    async def _wait(self, keys: list[bytes], wait_s: float) -> tuple[bytes, bytes] | None:
        try:
            async with asyncio.timeout(wait_s + OVERDUE_S):
                return cast(
                    "tuple[bytes, bytes] | None", await self._waiter.blpop(keys, timeout=wait_s)
                )
        except ResponseError:
            raise
        except (RedisError, OSError, TimeoutError) as error:
            self._redis.breaker.force_open()
            await self._renew()
            raise Missed(type(error).__name__) from error

    async def _renew(self) -> None:
        """A client that was cut off may have lost count of its connection."""
        old, self._waiter = self._waiter, self._connect()
        await accelerators.Accelerator(old).close()

    async def _clear_away(self, error: ResponseError, keys: list[bytes]) -> None:
        """Something else than a list lies where offers do: it is ours to clear away. If that is
        not what is wrong, this Redis is of no use."""
        log.warning("offers_refused", error=str(error))
        self._refusals += 1
        if self._refusals > 1:
            self._redis.breaker.force_open()
        await self._call(lambda client: client.unlink(*keys))

    async def _read(self, queue: str, entries: Sequence[Any]) -> Offer | None:
        try:
            return Offer(queue, [UUID(bytes=entry) for entry in entries])
        except (ValueError, TypeError):
            log.warning("offers_broken", queue=queue, error="not ids")
            await self.forget(queue)
            return None

    async def _call(self, work: Any) -> Any:
        try:
            return await self._redis.call(work)
        except accelerators.Missed as missed:
            raise Missed(*missed.args) from missed
