"""When a gateway stops asking a service, how fast it notices, and what operators may say."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from testkit.signals import eventually

QUEUE = "/v1/system/circuits/queue-service"
HELD = {"mode": "force_open", "expires_s": 60, "reason": "its database moves"}


async def system(gateway: Any) -> Any:
    status, body, _ = await gateway.tell("GET", "/v1/system")
    assert status == 200
    return body


async def circuit(gateway: Any, name: str = "queue-service") -> Any:
    return (await system(gateway))["circuits"][name]


async def is_watched(gateway: Any) -> None:
    """Looks have begun, and have seen everybody well."""

    async def seen() -> bool:
        body = await system(gateway)
        return {each["signals"]["probe"] for each in body["circuits"].values()} == {"up"}

    await eventually(seen)


async def opened_after(gateway: Any, began: float) -> float:
    async def is_open() -> bool:
        return bool((await circuit(gateway))["state"] == "open")

    await eventually(is_open, 8.0)
    return time.monotonic() - began


async def test_a_word_of_an_operator_holds_on_every_gateway_and_for_those_that_start_later(
    make_gateway: Any, owners: Any, job: Any
) -> None:
    one = await make_gateway()
    other = await make_gateway(database_url=one.dsn)
    status, said, _ = await one.tell("PUT", QUEUE, json=HELD)
    assert (status, said["state"], said["mode"], said["why"]) == (
        200, "open", "force_open", "operator"
    )  # fmt: skip
    later = await make_gateway(database_url=one.dsn)
    for gateway in (one, other, later):
        await eventually(lambda gateway=gateway: held(gateway, "force_open"))
        status, _, headers = await gateway.tell("POST", "/v1/jobs", json=job)
        assert (status, headers["Mainstay-Road"]) == (202, "spool")
    assert owners.queue.loads == []

    status, said, _ = await other.tell("PUT", QUEUE, json={"mode": "auto", "reason": "moved"})
    assert (status, said["mode"], said["until"]) == (200, "auto", None)
    for gateway in (one, other, later):
        await eventually(lambda gateway=gateway: held(gateway, "auto"))
        await eventually(lambda gateway=gateway: is_direct(gateway))
    await eventually(lambda: len(owners.queue.jobs) == 3)


async def held(gateway: Any, mode: str) -> bool:
    return bool((await circuit(gateway))["mode"] == mode)


async def is_direct(gateway: Any) -> bool:
    return bool((await system(gateway))["roads"]["enqueue"] == "direct")


async def test_held_closed_a_service_is_asked_whatever_its_health_says_until_that_runs_out(
    gateway: Any, job: Any
) -> None:
    word = {"mode": "force_closed", "expires_s": 4, "reason": "its health lies"}
    assert (await gateway.tell("PUT", QUEUE, json=word))[0] == 200
    gateway.owners.queue.health = "fail"

    async def is_seen() -> bool:
        return bool((await circuit(gateway))["signals"]["declared"] == "fail")

    await eventually(is_seen)
    status, _, headers = await gateway.tell("POST", "/v1/jobs", json=job)
    assert (status, headers["Mainstay-Road"]) == (201, "direct")
    assert await opened_after(gateway, time.monotonic()) > 2.0
    assert (await circuit(gateway))["mode"] == "auto"


async def test_the_timeline_tells_who_said_what_and_what_became_of_it_and_so_does_the_log_of_events(
    gateway: Any,
) -> None:
    key = await gateway.key("admin")
    await is_watched(gateway)
    assert (await gateway.tell("PUT", QUEUE, json=HELD, key=key))[0] == 200
    changes = (await system(gateway))["circuit_changes"]
    word, change = sorted(changes, key=lambda each: each["mode"] is None)
    assert (change["old"], change["state"], change["why"]) == ("closed", "open", "operator")
    assert (word["reason"], word["by"]) == (HELD["reason"], key.split("_")[1])

    connection = await asyncpg.connect(gateway.dsn, timeout=10)
    try:

        async def logged() -> int:
            return int(
                await connection.fetchval(
                    "select count(*) from event_log where type = 'gateway.circuit.changed.v1'"
                )
            )

        await eventually(lambda: equals(logged(), 2))
        assert await connection.fetchval("select count(*) from circuit_change") == 2
    finally:
        await connection.close(timeout=5)


async def equals(answer: Any, wanted: Any) -> bool:
    return bool(await answer == wanted)


async def test_only_an_admin_may_and_only_of_services_that_are_there(gateway: Any) -> None:
    key = await gateway.key("ops:read", "jobs:write", "queues:admin")
    status, problem, _ = await gateway.tell("PUT", QUEUE, json=HELD, key=key)
    assert (status, problem["type"]) == (403, "urn:mainstay:problem:missing_scope")
    assert (await gateway.tell("PUT", "/v1/system/circuits/sms", json=HELD))[0] == 404


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"mode": "off"}, "/mode"),
        ({"expires_s": 0}, "/expires_s"),
        ({"expires_s": 86_401}, "/expires_s"),
        ({"reason": ""}, "/reason"),
    ],
)
async def test_a_word_that_makes_no_sense_changes_nothing(
    gateway: Any, wrong: Any, pointer: str
) -> None:
    status, problem, _ = await gateway.tell("PUT", QUEUE, json={**HELD, **wrong})
    assert (status, problem["errors"][0]["pointer"]) == (422, pointer)
    assert (await circuit(gateway))["mode"] == "auto"


async def test_traffic_that_fails_opens_it_within_a_second(gateway: Any, job: Any) -> None:
    await is_watched(gateway)
    gateway.owners.queue.fails_every = 1
    began = time.monotonic()
    calls = [gateway.tell("POST", "/v1/jobs", json=job) for _ in range(10)]
    for answer in asyncio.as_completed(calls):
        assert (await answer)[0] in (201, 202)
    while (await circuit(gateway))["state"] != "open":
        assert (await gateway.tell("POST", "/v1/jobs", json=job))[0] == 202
    assert time.monotonic() - began < 1.0
    seen = await circuit(gateway)
    assert (seen["why"], seen["signals"]["probe"]) == ("traffic", "up")


async def test_half_of_the_answers_failing_opens_it_too(gateway: Any) -> None:
    gateway.owners.queue.fails_every = 2
    path = "/v1/queues"
    for _ in range(40):
        await gateway.tell("GET", path)
        if (await circuit(gateway))["state"] != "closed":
            break
    assert (await circuit(gateway))["why"] == "traffic"


async def test_a_death_that_no_traffic_meets_is_noticed_within_three_and_a_half_seconds(
    gateway: Any,
) -> None:
    await is_watched(gateway)
    gateway.owners.session.freeze()
    began = time.monotonic()

    async def is_open() -> bool:
        return bool((await circuit(gateway, "session-service"))["state"] == "open")

    await eventually(is_open, 5.0)
    assert time.monotonic() - began <= 3.5
    assert (await circuit(gateway, "session-service"))["why"] == "probe"
    gateway.owners.session.thaw()

    async def is_back() -> bool:
        state = (await circuit(gateway, "session-service"))["state"]
        return bool(state in ("recovering", "closed"))

    await eventually(is_back, 5.0)
