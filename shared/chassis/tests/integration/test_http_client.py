"""A failed call says whether the request can have happened."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from chassis import crypto, http_client
from chassis.crypto import Caller
from chassis.http_client import ServiceClient
from chassis.kernel import deadline, errors
from chassis.web import problems, trace
from testkit.faults import TcpProxy
from testkit.signals import eventually

PRIVATE, PUBLIC = crypto.new_service_key()
MINTER = crypto.Minter(service="gateway", private_key_pem=PRIVATE)


class Service:
    """Remembers what it was asked; answers as told by the path."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.go_on = asyncio.Event()
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        match request.path:
            case "/slow":
                await self.go_on.wait()
            case "/drops":
                assert request.transport is not None
                request.transport.abort()
            case "/refuses":
                return problems.response(errors.Limited("slow down", retry_after_s=7))
            case "/lost":
                return problems.response(errors.Ambiguous("the answer was lost"))
            case "/big":
                return web.Response(body=b"x" * 4096)
            case "/redirects":
                return web.Response(status=307, headers={"Location": "/elsewhere"})
        return web.json_response({"said": (await request.read()).decode()})


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", made.serve)
    async with TestServer(app) as server:
        made.url = str(server.make_url("/"))
        yield made
        made.go_on.set()


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with http_client.open_session() as made:
        yield made


@pytest_asyncio.fixture
async def proxy(service: Service) -> AsyncIterator[TcpProxy]:
    async with TcpProxy.before(service.url) as made:
        yield made


@pytest.fixture
def client(service: Service, session: aiohttp.ClientSession, proxy: TcpProxy) -> ServiceClient:
    return ServiceClient(
        name="queue-service", base_url=proxy.url(service.url), session=session, minter=MINTER
    )


async def failure(client: ServiceClient, path: str = "/", **options: Any) -> errors.Fault:
    with pytest.raises(errors.Fault) as caught:
        await client.request("POST", path, json={}, **options)
    return caught.value


async def test_carries_who_asks_the_trace_and_the_time_left(
    client: ServiceClient, service: Service
) -> None:
    begun = trace.begin()
    deadline.bind(deadline.Deadline.after(2))
    caller = Caller("gateway", key_id="k", shop="a.myshopify.com", scopes=frozenset({"jobs:read"}))
    answer = await client.request(
        "POST", "/v1/a%2Fb", json={"a": "ω"}, params={"x": "1"}, caller=caller
    )
    assert answer.status == 200
    assert answer.json() == {"said": '{"a":"ω"}'}
    (asked,) = service.asked
    assert asked.raw_path == "/v1/a%2Fb?x=1"
    assert begun.trace_id in asked.headers["traceparent"]
    assert 1500 < int(asked.headers[deadline.HEADER]) <= 2000
    (key,) = {"gateway": PUBLIC}.items()
    verifier = crypto.Verifier(
        service="queue-service",
        public_keys={key[0]: crypto.serialization.load_pem_public_key(key[1].encode())},  # type: ignore[dict-item]
    )
    token = asked.headers["Authorization"].removeprefix("Bearer ")
    assert verifier.verify(token) == caller


async def test_a_refusal_is_the_fault_it_was(client: ServiceClient) -> None:
    answer = await client.request("GET", "/refuses")
    with pytest.raises(errors.Limited) as caught:
        answer.checked()
    assert caught.value.retry_after_s == 7
    with pytest.raises(errors.Ambiguous):
        (await client.request("GET", "/lost")).checked()
    good = await client.request("GET", "/")
    assert good.checked() is good


async def test_nobody_there_means_that_it_never_left(
    client: ServiceClient, proxy: TcpProxy
) -> None:
    await proxy.refuses()
    assert type(await failure(client)) is errors.Unavailable


async def test_no_such_host_means_that_it_never_left(session: aiohttp.ClientSession) -> None:
    client = ServiceClient(
        name="x", base_url="http://nothing.invalid", session=session, minter=MINTER
    )
    assert type(await failure(client)) is errors.Unavailable


async def test_a_lost_answer_may_have_happened(client: ServiceClient, service: Service) -> None:
    assert type(await failure(client, "/drops")) is errors.Ambiguous
    assert len(service.asked) == 1, "and is not repeated here"


async def test_an_answer_cut_short_may_have_happened(
    client: ServiceClient, proxy: TcpProxy
) -> None:
    proxy.truncates(after_bytes=20)
    assert type(await failure(client)) is errors.Ambiguous


async def test_no_answer_in_time_may_have_happened(client: ServiceClient) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert type(await failure(client, "/slow", timeout_s=0.1)) is errors.Ambiguous
    assert loop.time() - started < 1


async def test_a_frozen_service_is_given_up_in_time(
    client: ServiceClient, proxy: TcpProxy, service: Service
) -> None:
    await client.request("GET", "/")
    proxy.hangs()
    assert isinstance(await failure(client, timeout_s=0.2), errors.Unavailable)
    assert len(service.asked) == 1


async def test_no_time_left_asks_nothing(client: ServiceClient, service: Service) -> None:
    deadline.bind(deadline.Deadline.after(0.001))
    assert isinstance(await failure(client), errors.Late)
    assert service.asked == []


async def test_an_endless_answer_is_not_read_to_its_end(
    client: ServiceClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "MAX_ANSWER_BYTES", 1000)
    assert isinstance(await failure(client, "/big"), errors.Unavailable)


async def test_a_redirect_is_not_followed(client: ServiceClient, service: Service) -> None:
    assert (await client.request("POST", "/redirects", json={})).status == 307
    assert len(service.asked) == 1


async def test_streams_go_out_as_they_come(client: ServiceClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    answer = await client.request("POST", "/", data=pieces(), headers={"Content-Type": "text/csv"})
    assert answer.json() == {"said": "one two"}


async def test_a_cancelled_caller_lets_go(client: ServiceClient, service: Service) -> None:
    task = asyncio.create_task(client.request("GET", "/slow"))
    await eventually(lambda: len(service.asked) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
