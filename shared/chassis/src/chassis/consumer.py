"""Consuming: parse, one use case, commit, then ack.

A handler answers with a verdict. Unavailable means that something of ours is down: the message goes
back after a pause. Anything unexpected goes back too, and the queue's delivery limit ends it.
`reject`, never `nack`: from RabbitMQ 4.3 a nack no longer counts against that limit.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from enum import StrEnum

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from chassis import logs, rabbit
from chassis.kernel import errors

log = logs.get(__name__)

PREFETCH = 50
PAUSE_S = 1.0


class Verdict(StrEnum):
    DONE = "done"
    INVALID = "invalid"
    AGAIN = "again"


# Takes the body; must have committed its effect before it answers DONE.
Handle = Callable[[bytes], Awaitable[Verdict]]


class Consumer(rabbit.Link):
    """Reads one queue on a connection of its own."""

    def __init__(
        self,
        url: str,
        *,
        queue: str,
        handle: Handle,
        topology: rabbit.Topology | None = None,
        prefetch: int = PREFETCH,
        pause_s: float = PAUSE_S,
    ) -> None:
        super().__init__(url, purpose=f"consume:{queue}", topology=topology)
        self._queue = queue
        self._handle = handle
        self._prefetch = prefetch
        self._pause_s = pause_s

    async def opened(self, connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=self._prefetch)
        queue = await channel.get_queue(self._queue, ensure=False)
        give_up = self.letting_go()
        channel.close_callbacks.add(give_up)
        # Told when the queue is deleted: without this the consumer would wait for nothing for ever.
        (await channel.get_underlay_channel()).on_consumer_cancel_callbacks.add(give_up)
        await queue.consume(functools.partial(self._received, give_up))

    async def _received(self, give_up: rabbit.GiveUp, message: AbstractIncomingMessage) -> None:
        verdict = await self._judge(message)
        rabbit.BUS_CONSUMED.labels(self._queue, verdict).inc()
        try:
            match verdict:
                case Verdict.DONE:
                    await message.ack()
                case Verdict.INVALID:
                    await message.reject(requeue=False)
                case Verdict.AGAIN:
                    await asyncio.sleep(self._pause_s)
                    await message.reject(requeue=True)
        except rabbit.FAILURES:
            # The connection is gone and with it the delivery: it comes again, and effects are
            # idempotent.
            give_up()

    async def _judge(self, message: AbstractIncomingMessage) -> Verdict:
        try:
            return await self._handle(message.body)
        except errors.Unavailable as error:
            log.warning("consumer_waits", queue=self._queue, code=error.code)
        except Exception as error:
            log.error("consumer_failed", queue=self._queue, exc_info=error)
        return Verdict.AGAIN
