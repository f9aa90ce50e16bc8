"""RabbitMQ, the optional bus: supervised connections, declared topology, confirmed publishing.

The driver's own "robust" reconnecting is not used: one drifted queue argument would take every
channel of a connection down for good. Publishing, consuming and the canary each have a connection
of their own, because an alarm blocks a publishing connection and must not block the others.
Everything has a time-out: a frozen broker hangs `connect` and `close`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import aio_pika
import aiormq.exceptions
from aio_pika.abc import AbstractChannel, AbstractConnection
from prometheus_client import Counter, Gauge, Histogram

from chassis import lifecycle, logs
from chassis.kernel import backoff, errors

log = logs.get(__name__)

CONNECT_TIMEOUT_S = 3.0
CLOSE_TIMEOUT_S = 1.0
DECLARE_TIMEOUT_S = 5.0
CONFIRM_TIMEOUT_S = 1.0
HEARTBEAT_S = 5
RECONNECT_BASE_S = 0.2
RECONNECT_MAX_S = 10.0
# After this many confirms in a row that did not come, the connection is given up: a frozen broker
# is otherwise noticed only after three heartbeats.
LOST_CONFIRMS = 2

BUS_UP = Gauge("bus_connection_up", "1 while the connection stands", ["purpose"])
BUS_CANARY_UP = Gauge("bus_canary_up", "1 while the canary's confirms come back")
BUS_PUBLISHED = Counter("bus_publish_total", "Publishes by outcome", ["result"])
BUS_PUBLISH_S = Histogram("bus_publish_duration_seconds", "Publish to confirm", ["result"])
BUS_CONSUMED = Counter("bus_consumed_total", "Messages by verdict", ["queue", "verdict"])
BUS_DRIFT = Gauge("bus_topology_drift", "1 when the broker holds other arguments", ["queue"])

FAILURES = (
    aiormq.exceptions.AMQPError,
    aiormq.exceptions.ChannelInvalidStateError,
    ConnectionError,
    OSError,
    RuntimeError,
)


class ExchangeSpec(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...


class QueueSpec(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def exchange(self) -> str: ...
    @property
    def keys(self) -> tuple[str, ...]: ...
    @property
    def arguments(self) -> dict[str, Any]: ...


class Topology:
    """What must exist. Declared once per connection, each on a channel that may die of it."""

    def __init__(self, exchanges: Sequence[ExchangeSpec], queues: Sequence[QueueSpec]) -> None:
        self._exchanges = exchanges
        self._queues = queues

    async def declare(self, connection: AbstractConnection) -> None:
        async with asyncio.timeout(DECLARE_TIMEOUT_S):
            for exchange in self._exchanges:
                await _alone(connection, exchange.name, _declare_exchange(exchange))
            for queue in self._queues:
                await _alone(connection, queue.name, _declare_queue(queue))


Step = Callable[[AbstractChannel], Awaitable[None]]


def _declare_exchange(spec: ExchangeSpec) -> Step:
    async def declare(channel: AbstractChannel) -> None:
        await channel.declare_exchange(spec.name, spec.kind, durable=True)

    return declare


def _declare_queue(spec: QueueSpec) -> Step:
    async def declare(channel: AbstractChannel) -> None:
        queue = await channel.declare_queue(spec.name, durable=True, arguments=spec.arguments)
        for key in spec.keys:
            await queue.bind(spec.exchange, routing_key=key)

    return declare


async def _alone(connection: AbstractConnection, name: str, step: Step) -> None:
    """A refusal (other arguments on the broker) is a fact to report, never a reason to stop."""
    channel = await connection.channel()
    try:
        await step(channel)
        BUS_DRIFT.labels(name).set(0)
    except aiormq.exceptions.ChannelClosed as error:
        log.error("bus_topology_drift", queue=name, reason=str(error))
        BUS_DRIFT.labels(name).set(1)
    finally:
        if not channel.is_closed:
            await channel.close()


GiveUp = Callable[..., None]


class Link:
    """One supervised connection. `run()` belongs under a Supervisor."""

    def __init__(self, url: str, *, purpose: str, topology: Topology | None = None) -> None:
        self._url = url
        self._topology = topology
        self.purpose = purpose
        self.up = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._gone = asyncio.Event()

    async def opened(self, connection: AbstractConnection) -> None:
        """Called with each fresh connection, before it counts as up."""

    async def run(self) -> None:
        failures = 0
        while True:
            try:
                await self._stand()
                failures = 0
            except (*FAILURES, TimeoutError) as error:
                failures += 1
                if failures == 1:
                    log.warning("bus_lost", purpose=self.purpose, error=type(error).__name__)
            finally:
                await self._drop()
            pause_s = backoff.delay_s(
                max(failures, 1), base_s=RECONNECT_BASE_S, max_s=RECONNECT_MAX_S
            )
            await asyncio.sleep(pause_s)

    def letting_go(self) -> GiveUp:
        """What gives up the connection of now. Said late, it says nothing about a later one."""
        gone = self._gone

        def give_up(*_why: object) -> None:
            if gone is self._gone:
                self.up.clear()
            gone.set()

        return give_up

    async def _stand(self) -> None:
        self._gone = gone = asyncio.Event()
        self._connection = connection = await self._connect()
        connection.close_callbacks.add(self.letting_go())
        if self._topology is not None:
            await self._topology.declare(connection)
        async with asyncio.timeout(DECLARE_TIMEOUT_S):
            await self.opened(connection)
        self.up.set()
        BUS_UP.labels(self.purpose).set(1)
        log.info("bus_connected", purpose=self.purpose)
        await gone.wait()

    async def _connect(self) -> AbstractConnection:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await aio_pika.connect(
                self._url,
                timeout=CONNECT_TIMEOUT_S,
                heartbeat=HEARTBEAT_S,
                client_properties={"connection_name": self.purpose},
            )

    async def _drop(self) -> None:
        self.up.clear()
        BUS_UP.labels(self.purpose).set(0)
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await connection.close()
        except (*FAILURES, TimeoutError):
            log.info("bus_close_failed", purpose=self.purpose)


class Publisher(Link):
    """Publishes with a confirm. Unavailable: certainly not kept. Ambiguous: repeat with the id."""

    def __init__(self, url: str, *, purpose: str, topology: Topology | None = None) -> None:
        super().__init__(url, purpose=purpose, topology=topology)
        self._channel: AbstractChannel | None = None
        self._give_up = self.letting_go()
        self._lost_confirms = 0

    async def opened(self, connection: AbstractConnection) -> None:
        self._give_up = self.letting_go()
        self._channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        self._lost_confirms = 0

    async def publish(
        self,
        body: bytes,
        *,
        exchange: str,
        routing_key: str,
        message_id: str,
        headers: dict[str, Any] | None = None,
        content_type: str = "application/json",
        timeout_s: float = CONFIRM_TIMEOUT_S,
    ) -> None:
        """Return once the broker has confirmed it."""
        started = time.monotonic()
        result = "failed"
        try:
            await self._publish(
                _message(body, message_id, routing_key, headers, content_type),
                exchange,
                routing_key,
                timeout_s,
            )
            result = "confirmed"
        finally:
            BUS_PUBLISHED.labels(result).inc()
            BUS_PUBLISH_S.labels(result).observe(time.monotonic() - started)

    async def _publish(
        self, message: aio_pika.Message, exchange: str, routing_key: str, timeout_s: float
    ) -> None:
        channel, give_up = self._channel, self._give_up
        if not self.up.is_set() or channel is None or channel.is_closed:
            raise errors.Unavailable("the bus is down")
        try:
            async with asyncio.timeout(timeout_s):
                target = await channel.get_exchange(exchange, ensure=False)
                await target.publish(message, routing_key, mandatory=True, timeout=timeout_s)
        except aiormq.exceptions.DeliveryError as error:
            raise errors.Unavailable("the bus refused the message") from error
        except TimeoutError as error:
            if channel is self._channel:
                self._lost_confirms += 1
            if self._lost_confirms >= LOST_CONFIRMS:
                give_up()
            raise errors.Ambiguous("the bus did not confirm in time") from error
        except FAILURES as error:
            give_up()
            raise errors.Ambiguous("the bus broke off") from error
        self._lost_confirms = 0


def _message(
    body: bytes,
    message_id: str,
    kind: str,
    headers: dict[str, Any] | None,
    content_type: str,
) -> aio_pika.Message:
    return aio_pika.Message(
        body,
        message_id=message_id,
        type=kind,
        content_type=content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        timestamp=datetime.now(UTC),
        headers=headers or {},
    )


class Canary(lifecycle.Loop):
    """One tiny confirmed message every two seconds, on a connection of its own.

    It is the only thing that notices an alarm before real work does. Two misses mean down.
    """

    name = "bus_canary"
    interval_s = 2.0

    def __init__(self, publisher: Publisher, *, exchange: str, routing_key: str) -> None:
        super().__init__()
        self._publisher = publisher
        self._exchange = exchange
        self._routing_key = routing_key
        self._misses = LOST_CONFIRMS

    @property
    def up(self) -> bool:
        return self._misses < LOST_CONFIRMS

    async def run_once(self) -> bool:
        try:
            await self._publisher.publish(
                b"{}",
                exchange=self._exchange,
                routing_key=self._routing_key,
                message_id=str(time.time_ns()),
            )
            self._misses = 0
        except errors.Unavailable:
            self._misses += 1
        BUS_CANARY_UP.set(1 if self.up else 0)
        return False
