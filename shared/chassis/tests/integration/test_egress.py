"""The guard where it counts: at the socket."""

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.test_utils import TestServer

from chassis import egress
from chassis.egress import Guard

LOOPBACK = Guard(egress.networks("127.0.0.0/8"))


class Names(AbstractResolver):
    """Answers a list of addresses, the next one at every question."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in told
        ]

    async def close(self) -> None:
        pass


class Site:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path == "/away":
            raise web.HTTPFound(f"http://rebound.example:{self.port}/inside")
        return web.Response(text="hello", headers={"Connection": "close"})


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", made.serve)
    async with TestServer(app) as server:
        assert server.port is not None
        made.port = server.port
        yield made


async def refused(session: aiohttp.ClientSession, url: str) -> bool:
    with pytest.raises(aiohttp.ClientConnectorError) as caught:
        async with session.get(url):
            pass
    return egress.was_refused(caught.value)


async def test_what_is_allowed_is_reached(site: Site) -> None:
    async with (
        egress.open_session(LOOPBACK, resolver=Names(["127.0.0.1"])) as session,
        session.get(f"http://shop.example:{site.port}/hook") as answer,
    ):
        assert await answer.text() == "hello"
    assert site.asked == ["/hook"]


async def test_a_name_or_an_address_that_leads_inside_reaches_nobody(site: Site) -> None:
    for addresses in (["127.0.0.1"], ["::ffff:127.0.0.1"], ["127.0.0.1", "10.0.0.1"]):
        async with egress.open_session(Guard(), resolver=Names(addresses)) as session:
            for scheme in ("https", "http"):
                assert await refused(session, f"{scheme}://shop.example:{site.port}/")
                assert await refused(session, f"{scheme}://127.0.0.1:{site.port}/")
    assert site.asked == []


async def test_without_https_not_even_a_public_address_is_called() -> None:
    async with egress.open_session(LOOPBACK, resolver=Names(["1.1.1.1"])) as session:
        assert await refused(session, "http://shop.example/")
        assert await refused(session, "http://1.1.1.1/")


async def test_a_name_that_changes_its_mind_between_two_questions_is_judged_again(
    site: Site,
) -> None:
    guard = Guard(egress.networks("127.0.0.1/32"))
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with egress.open_session(guard, resolver=names) as session:
        assert session.connector is not None
        async with session.get(f"http://shop.example:{site.port}/first") as answer:
            assert answer.status == 200
        session.connector.clear_dns_cache()  # type: ignore[attr-defined]
        assert await refused(session, f"http://shop.example:{site.port}/second")
    assert site.asked == ["/first"]


async def test_of_several_addresses_only_a_permitted_one_is_called(site: Site) -> None:
    guard = Guard(egress.networks("127.0.0.2/32"))
    names = Names(["127.0.0.1", "127.0.0.2"])
    async with egress.open_session(guard, resolver=names) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            async with session.get(f"http://shop.example:{site.port}/"):
                pass
    assert site.asked == [], "it listens on 127.0.0.1 alone"


async def test_even_a_followed_redirect_cannot_lead_inside(site: Site) -> None:
    guard = Guard(egress.networks("127.0.0.1/32"))
    names = Names(["127.0.0.1"], ["127.0.0.3"])
    async with egress.open_session(guard, resolver=names) as session:
        assert await refused(session, f"http://shop.example:{site.port}/away")
    assert site.asked == ["/away"]
