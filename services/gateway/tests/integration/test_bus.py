"""Road 2, and events, on a real RabbitMQ."""

import json
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import pytest

from chassis import crypto, rabbit
from contracts import topology
from contracts.commands import AcceptJobs
from testkit.signals import eventually

from .test_enqueue import knows_queues, rows


async def on_bus(gateway: Any) -> None:
    async def is_up() -> bool:
        system = (await gateway.tell("GET", "/v1/system"))[1]
        return bool(system["dependencies"]["rabbitmq"] == "up")

    await eventually(is_up, 15.0)


async def commands_of(url: str) -> list[AcceptJobs]:
    connection = await aio_pika.connect(url)
    try:
        channel = await connection.channel()
        queue = await channel.get_queue(topology.JOB_ACCEPT.name)
        found = []
        while (message := await queue.get(fail=False)) is not None:
            found.append(AcceptJobs.model_validate_json(message.body))
            await message.ack()
        return found
    finally:
        await connection.close()


async def test_with_road_1_shut_a_job_takes_the_bus_and_is_kept_until_its_owner_has_it(
    make_gateway: Any, amqp_url: str, job: Any
) -> None:
    gateway = await make_gateway(amqp_url=amqp_url)
    await knows_queues(gateway)
    await on_bus(gateway)
    await gateway.owners.queue.stop()
    headers = {"Idempotency-Key": "bus-1"}
    wanted = {**job, "delay_s": 60}
    status, body, said = await gateway.tell("POST", "/v1/jobs", json=wanted, headers=headers)
    assert (status, said["Mainstay-Road"], said["Degraded"]) == (202, "bus", "enqueue;bus")
    again = await gateway.tell("POST", "/v1/jobs", json=wanted, headers=headers)
    assert (again[0], again[1]) == (202, body)
    other = await gateway.tell("POST", "/v1/jobs", json=job, headers=headers)
    assert (other[0], other[1]["code"]) == (422, "idempotency_key_reused")
    (command,) = await commands_of(amqp_url)
    assert command.promised
    assert [str(each.id) for each in command.jobs] == [body["id"]]
    assert command.jobs[0].job.delay_s is None
    assert command.jobs[0].job.run_at is not None
    assert await rows(gateway) == 1
    # The broker lost its disk: nobody consumed it, and a minute goes by.
    connection = await asyncpg.connect(gateway.dsn)
    await connection.execute("update accepted set due_at = now()")
    await connection.close()
    await gateway.owners.queue.start()
    await eventually(lambda: body["id"] in gateway.owners.queue.jobs, 8.0)
    assert len(gateway.owners.queue.jobs) == 1


async def test_without_the_table_the_bus_alone_keeps_a_job(
    make_gateway: Any, make_database: Any, amqp_url: str, job: Any
) -> None:
    from gateway.__main__ import MIGRATIONS
    from testkit.faults import TcpProxy

    dsn = await make_database(MIGRATIONS)
    async with TcpProxy.before(dsn) as proxy:
        gateway = await make_gateway(database_url=proxy.url(dsn), amqp_url=amqp_url)
        gateway.dsn = dsn
        await knows_queues(gateway)
        await on_bus(gateway)
        await gateway.owners.queue.stop()
        await proxy.refuses()
        status, body, headers = await gateway.tell("POST", "/v1/jobs", json=job)
        assert (status, headers["Mainstay-Road"]) == (202, "bus")
        read = await gateway.tell("GET", f"/v1/jobs/{body['id']}")
        assert (read[0], read[1]["state"]) == (202, "accepted")
        assert len(await commands_of(amqp_url)) == 1


@pytest.mark.chaos
async def test_a_killed_broker_leaves_the_spool(
    make_gateway: Any, private_rabbit: Any, job: Any
) -> None:
    gateway = await make_gateway(amqp_url=private_rabbit.url)
    await knows_queues(gateway)
    await on_bus(gateway)
    await gateway.owners.queue.stop()
    private_rabbit.kill()
    answers = [await gateway.tell("POST", "/v1/jobs", json=job) for _ in range(3)]
    assert [(status, said["Mainstay-Road"]) for status, _, said in answers] == [(202, "spool")] * 3
    await gateway.owners.queue.start()
    ids = {body["id"] for _, body, _ in answers}
    await eventually(lambda: ids == gateway.owners.queue.jobs.keys(), 10)


def an_event(**more: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()), "source": "queue-service", "type": "batch.completed.v1",
        "time": "2026-01-01T00:00:00Z", "shop": "s.myshopify.com", "data": {"name": "spring"},
        **more,
    }  # fmt: skip


async def publish(url: str, event: dict[str, Any]) -> None:
    connection = await aio_pika.connect(url)
    try:
        channel = await connection.channel()
        exchange = await channel.get_exchange(topology.EVENTS)
        await exchange.publish(aio_pika.Message(json.dumps(event).encode()), event["type"])
    finally:
        await connection.close()


async def test_an_event_is_logged_once_by_whichever_road_it_comes(
    make_gateway: Any, amqp_url: str
) -> None:
    gateway = await make_gateway(amqp_url=amqp_url)
    await on_bus(gateway)
    keys = gateway.owners.keys
    minter = crypto.Minter(service="queue-service", private_key_pem=keys.private["queue-service"])
    event, token = an_event(), minter.mint("gateway")
    reader = await gateway.key("jobs:read", shop="s.myshopify.com")
    stranger = await gateway.key("jobs:read", shop="other.myshopify.com")
    async with gateway.ask(
        "GET", "/v1/events", key=reader, headers={"Last-Event-ID": "0"}
    ) as stream:
        assert stream.content_type == "text/event-stream"
        await publish(amqp_url, event)
        lines = await _event_lines(stream)
        assert json.loads(lines["data"])["id"] == event["id"]
        for _ in range(2):
            posted = await gateway.tell(
                "POST", "/internal/v1/events", key=token, json={"events": [event]}
            )
            assert (posted[0], posted[1]) == (200, {"taken": 0, "known": 1})
        later = an_event()
        posted = await gateway.tell(
            "POST", "/internal/v1/events", key=token, json={"events": [later]}
        )
        assert posted[1]["taken"] == 1
        assert json.loads((await _event_lines(stream))["data"])["id"] == later["id"]
    async with gateway.ask(
        "GET", "/v1/events", key=stranger, headers={"Last-Event-ID": "0"}
    ) as stream:
        await publish(amqp_url, an_event(shop="other.myshopify.com", subject="theirs"))
        assert json.loads((await _event_lines(stream))["data"])["subject"] == "theirs"


async def _event_lines(stream: Any) -> dict[str, str]:
    lines: dict[str, str] = {}
    while True:
        line = (await stream.content.readline()).decode().rstrip("\n")
        if not line and "data" in lines:
            return lines
        name, _, value = line.partition(": ")
        if name:
            lines[name] = value


async def test_an_event_that_cannot_be_read_is_put_aside(make_gateway: Any, amqp_url: str) -> None:
    gateway = await make_gateway(amqp_url=amqp_url)
    await on_bus(gateway)
    counted = rabbit.BUS_CONSUMED.labels(topology.GATEWAY_EVENTS.name, "invalid")
    before = counted._value.get()

    async def put_aside() -> bool:
        return bool(counted._value.get() > before)

    await publish(amqp_url, {"id": "nonsense", "type": "batch.completed.v1"})
    await eventually(put_aside)
