"""What /v1/system says while things die and come back."""

from typing import Any

from testkit.signals import eventually


async def system(gateway: Any) -> Any:
    status, body, _ = await gateway.tell("GET", "/v1/system")
    assert status == 200
    return body


async def test_all_is_well(gateway: Any) -> None:
    async def is_well() -> bool:
        return not (await system(gateway))["degraded"]

    await eventually(is_well)
    body = await system(gateway)
    assert body["roads"] == {
        "enqueue": "direct", "dispatch": "postgres", "limits": "postgres", "sessions": "direct",
        "cache": "memory",
    }  # fmt: skip
    assert body["dependencies"] == {"postgres": "up", "redis": "absent", "rabbitmq": "absent"}
    assert {"gateway", "queue-service", "session-service", "ratelimit-service"} == set(
        body["services"]
    )
    assert body["services"]["queue-service"]["circuit"] == "closed"
    assert "enqueue jobs" in body["can"]


async def test_a_frozen_service_is_seen_within_three_seconds_and_its_return_too(
    gateway: Any,
) -> None:
    async def says(status: str, road: str) -> bool:
        body = await system(gateway)
        seen = body["services"].get("queue-service", {"status": "not looked at yet"})
        return bool((seen["status"], body["roads"]["enqueue"]) == (status, road))

    await eventually(lambda: says("up", "direct"))
    gateway.owners.queue.freeze()
    await eventually(lambda: says("down", "spool"), 3.5)
    assert (await system(gateway))["degraded"]
    gateway.owners.queue.thaw()
    await eventually(lambda: says("up", "direct"), 20.0)


async def test_a_service_that_cannot_work_is_down_and_its_circuit_opens(gateway: Any) -> None:
    gateway.owners.queue.health = "fail"

    async def is_down() -> bool:
        service = (await system(gateway))["services"].get("queue-service")
        return bool(service and service["status"] == "down" and service["circuit"] == "open")

    await eventually(is_down, 6.0)
