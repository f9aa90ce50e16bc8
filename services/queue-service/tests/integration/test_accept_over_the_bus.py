"""Commands on a real RabbitMQ: what was promised becomes a job, once, whatever it looks like."""

from collections.abc import AsyncIterator
from typing import Any

import aio_pika
import orjson
import pytest_asyncio

from chassis.kernel import ids
from contracts import commands, topology
from testkit.signals import eventually


@pytest_asyncio.fixture
async def bus(start: Any, amqp_url: str) -> AsyncIterator[tuple[Any, aio_pika.abc.AbstractChannel]]:
    service = await start(amqp_url=amqp_url)
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel(on_return_raises=True)

    async def is_declared() -> bool:
        probe = await connection.channel()
        try:
            queue = await probe.get_queue(topology.JOB_ACCEPT.name, ensure=True)
            return queue.declaration_result.consumer_count == 1
        except aio_pika.exceptions.ChannelClosed:
            return False

    await eventually(is_declared, within_s=15)
    yield service, channel
    await connection.close()


def accepted(**more: Any) -> dict[str, Any]:
    return {"id": str(ids.new_id()), "accepted_at": "2099-01-01T00:00:00Z", "fingerprint": "f",
            "job": {"kind": "k"}, **more}  # fmt: skip


async def send(channel: aio_pika.abc.AbstractChannel, body: bytes) -> None:
    exchange = await channel.get_exchange(topology.COMMANDS, ensure=False)
    await exchange.publish(aio_pika.Message(body), commands.ACCEPT_JOBS, mandatory=True)


async def test_a_promised_job_arrives_once_though_its_command_comes_twice(bus: Any) -> None:
    service, channel = bus
    good, unknown = accepted(), accepted(job={"kind": "k", "queue": "nowhere"})
    command = orjson.dumps({"promised": True, "jobs": [good, unknown]})
    for _ in range(2):
        await send(channel, command)
    last = accepted()
    await send(channel, orjson.dumps({"promised": True, "jobs": [last]}))

    async def state(job: dict[str, Any]) -> str:
        return str((await service.get(f"/v1/jobs/{job['id']}")).body.get("state"))

    async def all_arrived() -> bool:
        states = [await state(job) for job in (good, unknown, last)]
        return states == ["ready", "rejected", "ready"]

    await eventually(all_arrived)
    assert await service.count() == 3


async def test_what_cannot_be_read_is_rejected_by_its_id_and_kept_as_a_dead_letter(
    bus: Any,
) -> None:
    service, channel = bus
    good, bad = accepted(), accepted(job={"kind": 7})
    body = orjson.dumps({"promised": True, "jobs": [good, bad, {"id": "x"}, None]})
    await send(channel, b"not json")
    await send(channel, body)
    dead = await channel.get_queue(topology.DEAD_LETTERS.name, ensure=False)
    letters: list[bytes] = []

    async def both_are_dead() -> bool:
        message = await dead.get(no_ack=True, fail=False)
        if message is not None:
            letters.append(message.body)
        return len(letters) == 2

    await eventually(both_are_dead, within_s=10)
    assert sorted(letters) == sorted([b"not json", body])
    assert (await service.get(f"/v1/jobs/{good['id']}")).body["state"] == "ready"
    rejected = (await service.get(f"/v1/jobs/{bad['id']}")).body
    assert rejected["state"] == "rejected"
    assert "/job/kind" in rejected["errors"][-1]["message"]
    assert await service.count() == 2


async def test_the_end_of_a_batch_travels_over_the_bus(bus: Any) -> None:
    service, channel = bus
    batch = (await service.post("/v1/batches", {"name": "b", "kind": "k"})).body
    await service.post(f"/v1/batches/{batch['id']}:close")
    queue = await channel.get_queue(topology.GATEWAY_EVENTS.name, ensure=False)
    message = await eventually(lambda: queue.get(no_ack=True, fail=False), within_s=10)
    event = orjson.loads(message.body)
    assert (event["type"], event["data"]["batch_id"]) == ("batch.completed.v1", batch["id"])
    assert message.message_id == event["id"]

    async def outbox_is_empty() -> bool:
        return (await service.fetch("select count(*) from outbox"))[0][0] == 0

    await eventually(outbox_is_empty)


async def test_health_tells_which_helpers_are_there(bus: Any) -> None:
    service, _ = bus

    async def checks() -> Any:
        report = (await service.get("/healthz")).body
        seen = {"postgres": "up", "redis": "absent", "rabbitmq": "up"}
        return (report["checks"], report["dispatch"]) == (seen, "postgres")

    await eventually(checks)
