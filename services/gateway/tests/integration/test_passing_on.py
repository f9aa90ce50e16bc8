"""What reaches an owner through the gateway, and what comes back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import pytest
import yarl

from chassis.kernel import breaker
from chassis.web import health
from gateway.api import keys
from testkit.faults import TcpProxy
from testkit.signals import eventually

from .conftest import ADMIN_KEY


async def test_a_request_is_passed_on_without_what_is_ours(gateway: Any) -> None:
    key = await gateway.key("jobs:read", shop="s.myshopify.com")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    status, _, headers = await gateway.tell(
        "GET", "/v1/jobs?limit=3", key=key, headers={"traceparent": trace, "Cookie": "a=b"}
    )
    assert (status, headers["Mainstay-Road"]) == (200, "direct")
    assert trace[3:35] in headers["traceparent"]
    got, caller = gateway.owners.queue.headers[-1], gateway.owners.queue.callers[-1]
    assert trace[3:35] in got["traceparent"]
    assert "Cookie" not in got
    assert key not in str(got)
    assert got["X-Forwarded-For"] == "127.0.0.1"
    assert 0 < int(got["Request-Timeout-Ms"]) <= 5000
    assert (caller.service, caller.shop, caller.scopes) == (
        "gateway", "s.myshopify.com", frozenset({"jobs:read"}),
    )  # fmt: skip


async def test_an_upload_of_any_length_streams(gateway: Any) -> None:
    async def rows() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65_536

    status, body, _ = await gateway.tell(
        "POST", "/v1/batches/b/items", data=rows(), headers={"Content-Type": "text/csv"}
    )
    assert (status, body["accepted"]) == (200, 64 * 65_536)


async def test_an_upload_to_an_owner_that_is_away_is_503(gateway: Any) -> None:
    await gateway.owners.queue.stop()
    status, body, _ = await gateway.tell(
        "POST", "/v1/batches/b/items", data=b"a,b\n", headers={"Content-Type": "text/csv"}
    )
    assert (status, body["retryable"]) == (503, True)


async def test_callers_who_break_off_say_nothing_about_the_owner(gateway: Any) -> None:
    parts = urlsplit(gateway.url)
    head = (
        f"POST /v1/batches/b/items HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
        "Content-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na,b\n\r\n"
    )
    queue = gateway.owners.queue
    for turn in range(1, 6):
        _reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(head.encode())
        await writer.drain()
        await eventually(lambda turn=turn: queue.uploaded == 4 * turn)
        writer.transport.abort()
    await eventually(lambda: queue.broken_uploads == 5)
    assert gateway.app[keys.OWNERS]["queue-service"].circuit.state is breaker.State.CLOSED
    assert (await gateway.tell("GET", "/v1/jobs"))[0] == 200


async def test_half_an_answer_is_never_passed_off_as_a_whole_one(
    make_gateway: Any, owners: Any
) -> None:
    owners.queue.jobs["x"] = {"id": "x", "args": {"text": "y" * 2**21}}
    async with TcpProxy.before(owners.queue.url) as proxy:
        gateway = await make_gateway(queue_service_url=proxy.url(owners.queue.url))
        assert len((await gateway.tell("GET", "/v1/jobs"))[1]["items"][0]["args"]["text"]) == 2**21
        proxy.cut()
        proxy.truncates(1_500_000)
        with pytest.raises(aiohttp.ClientError):
            await gateway.tell("GET", "/v1/jobs")


async def test_a_path_is_passed_on_as_it_came(gateway: Any) -> None:
    await gateway.tell("GET", yarl.URL("/v1/shops/a%2Fb/sessions?q=%C3%A9&q=+", encoded=True))
    assert gateway.owners.session.paths[-1] == "/v1/shops/a%2Fb/sessions?q=%C3%A9&q=+"


async def test_an_owner_that_is_away_is_503_and_says_so(gateway: Any) -> None:
    await gateway.owners.session.stop()
    status, body, headers = await gateway.tell("GET", "/v1/shops/s.myshopify.com/sessions")
    assert (status, body["code"], body["retryable"]) == (503, "unavailable", True)
    assert headers["Retry-After"]

    async def road() -> bool:
        system = (await gateway.tell("GET", "/v1/system"))[1]
        return bool(system["roads"]["sessions"] == "shut" and system["degraded"])

    await eventually(road)


async def test_the_document_tells_of_everything_offered_and_of_nothing_else(gateway: Any) -> None:
    status, document, _ = await gateway.tell("GET", "/v1/openapi.json", key=None)
    assert status == 200
    assert {"/v1/jobs", "/v1/keys", "/v1/system", "/v1/ratelimits/check:batch"} <= set(
        document["paths"]
    )
    assert not [path for path in document["paths"] if path.startswith("/internal")]


async def test_a_read_is_kept_for_as_long_as_its_caller_allows(
    make_gateway: Any, redis_url: str
) -> None:
    gateway = await make_gateway(redis_url=redis_url)
    path, patient = "/v1/ratelimits/policies/api", {"Cache-Control": "max-age=60"}
    first = await gateway.tell("GET", path, headers=patient)
    again = await gateway.tell("GET", path, headers=patient)
    assert (first[1], again[1]) == ({"id": "api", "reads": 1}, {"id": "api", "reads": 1})
    assert "fwd=miss" in first[2]["Cache-Status"]
    assert "hit; detail=" in again[2]["Cache-Status"]
    assert (await gateway.tell("GET", path))[1]["reads"] == 2
    other = await gateway.key("ratelimits:admin")
    assert (await gateway.tell("GET", path, key=other, headers=patient))[1]["reads"] == 3


async def test_what_lies_in_redis_is_sealed(make_gateway: Any, redis_url: str) -> None:
    import redis

    gateway = await make_gateway(redis_url=redis_url)

    async def kept() -> list[bytes]:
        path = f"/v1/ratelimits/policies/secret-word?{uuid4()}"
        await gateway.tell("GET", path, headers={"Cache-Control": "max-age=60"})
        with redis.Redis.from_url(redis_url) as client:
            return [client.get(name) or b"" for name in client.keys("gw:*")]

    values = await eventually(kept)
    assert not [value for value in values if b"secret-word" in value]


async def test_a_dead_redis_is_one_miss(make_gateway: Any, private_redis: Any) -> None:
    gateway = await make_gateway(redis_url=private_redis.url)

    async def hits(shelf: str) -> bool:
        status, _, headers = await gateway.tell(
            "GET", "/v1/ratelimits/policies/api", headers={"Cache-Control": "max-age=60"}
        )
        assert status == 200
        return f"hit; detail={shelf}" in headers["Cache-Status"]

    await eventually(lambda: hits("redis"))
    read = gateway.owners.ratelimit.policies_read
    private_redis.kill()
    await eventually(lambda: hits("memory"))
    assert gateway.owners.ratelimit.policies_read <= read + 1


async def test_jobs_and_sessions_are_never_kept(gateway: Any) -> None:
    patient = {"Cache-Control": "max-age=60"}
    for path in ("/v1/jobs", "/v1/shops/s.myshopify.com/sessions", "/v1/queues"):
        _, _, headers = await gateway.tell("GET", path, headers=patient)
        assert "Cache-Status" not in headers


async def test_a_long_poll_ends_when_its_caller_hangs_up_or_the_gateway_stops(
    gateway: Any,
) -> None:
    def poll() -> asyncio.Task[Any]:
        return asyncio.create_task(gateway.tell("POST", "/v1/queues/sms:lease", json={}))

    owner = gateway.owners.queue
    polling = poll()
    await eventually(lambda: owner.parked == 1)
    polling.cancel()
    await eventually(lambda: owner.parked == 0)
    polling = poll()
    await eventually(lambda: owner.parked == 1)
    gateway.app[health.HEALTH].stopping()
    status, body, headers = await polling
    assert (status, body["retryable"], headers["Retry-After"]) == (503, True, "1")
    await eventually(lambda: owner.parked == 0)
    # Neither says anything about the owner.
    assert gateway.app[keys.OWNERS]["queue-service"].circuit.state is breaker.State.CLOSED
