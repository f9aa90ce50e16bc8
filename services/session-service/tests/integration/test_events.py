"""Events leave for the bus, and for the gateway while there is none."""

from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import asyncpg
import pytest_asyncio
from aiohttp import web

from chassis import crypto
from chassis.web import health
from contracts import events, topology
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
TELL = f"select record_event('refreshed', 'offline_{SHOP}', '{SHOP}', null, 7, 'refresh')"


async def tell(dsn: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        await connection.execute(TELL)
    finally:
        await connection.close()


async def waiting(dsn: str) -> int:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return int(await connection.fetchval("select count(*) from outbox"))
    finally:
        await connection.close()


@pytest_asyncio.fixture
async def taken() -> AsyncIterator[tuple[str, list[Any]]]:
    """(address of something that takes events, what it took)"""
    took: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        took.extend((await request.json())["events"])
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/internal/v1/events", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}", took
    await runner.cleanup()


async def test_without_a_bus_the_gateway_is_told(
    start: Any, database: str, taken: tuple[str, list[Any]]
) -> None:
    url, took = taken
    await tell(database)
    await start(gateway_url=url, service_key=crypto.new_service_key()[0])
    await eventually(lambda: bool(took), within_s=10)
    assert [event["type"] for event in took] == [events.SESSION_REFRESHED]

    async def is_empty() -> bool:
        return await waiting(database) == 0

    await eventually(is_empty, within_s=10)


async def test_with_a_bus_it_is_told(start: Any, database: str, amqp_url: str) -> None:
    connection = await aio_pika.connect(amqp_url)
    async with connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(topology.EVENTS, "topic", durable=True)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(exchange, routing_key="session.#")
        service = await start(amqp_url=amqp_url)
        await tell(database)

        async def arrived() -> aio_pika.abc.AbstractIncomingMessage | None:
            return await queue.get(fail=False, no_ack=True)

        message = await eventually(arrived, within_s=10)
        assert message is not None
        envelope = events.Envelope.model_validate_json(message.body)
        assert (envelope.type, envelope.shop) == (events.SESSION_REFRESHED, SHOP)
        assert await service.app[health.HEALTH].checks["rabbitmq"]() == "up"
