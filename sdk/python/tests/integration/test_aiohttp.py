"""The middleware in an app, before a real ratelimit-service."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from mainstay import limiter
from mainstay.aiohttp import DECISION, rate_limits
from mainstay.client import Client
from mainstay.limiter import Limiter
from testkit.faults import TcpProxy
from testkit.signals import eventually

SHOPS = {"secret-of-a": "a.myshopify.com"}


async def of_session(request: web.Request) -> str | None:
    """As an app does that verifies its sessions."""
    return SHOPS.get(request.cookies.get("session", ""))


async def hello(request: web.Request) -> web.Response:
    decision = request.get(DECISION)
    left = [one.remaining for one in decision.limits] if decision else []
    return web.json_response({"left": left[0] if left else None})


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    return response


async def gone(_request: web.Request) -> web.Response:
    raise web.HTTPGone


class App:
    def __init__(
        self, http: aiohttp.ClientSession, client: Client, proxy: TcpProxy, strict: str
    ) -> None:
        self.http = http
        self.client = client
        self.proxy = proxy
        self.strict = strict

    async def get(self, path: str, session: str = "", **headers: str) -> aiohttp.ClientResponse:
        said = {
            "Cookie": f"session={session}",
            **{n.replace("_", "-"): v for n, v in headers.items()},
        }
        async with self.http.get(path, headers=said) as answer:
            await answer.read()
            return answer


@pytest_asyncio.fixture
async def app(limit_service: Any) -> AsyncIterator[App]:
    async with (
        TcpProxy.before(limit_service.url) as proxy,
        limit_service.client(proxy.url(limit_service.url)) as client,
        Limiter(client, budget_s=2.0) as limits,
        Limiter(client, budget_s=2.0, on_failure="closed") as closed,
    ):
        await client.put_policy("site", key="shop_or_ip", rate="1/h", burst=3)
        await client.put_policy("login", key="shop_or_ip", rate="1/h", burst=1)
        made = web.Application(
            middlewares=[
                rate_limits(
                    limits,
                    ["site"],
                    routes={"GET /login/{who}": ["login"], "/health": [], "/typo": ["nope"]},
                    shop=of_session,
                    trusted_hops=1,
                ),
            ]
        )  # fmt: skip
        strict = web.Application(middlewares=[rate_limits(closed, ["site"])])
        strict.router.add_get("/", hello)
        for path in ("/", "/login/{who}", "/health", "/typo"):
            made.router.add_get(path, hello)
        made.router.add_get("/stream", stream)
        made.router.add_get("/gone", gone)
        async with (
            TestServer(made) as server,
            TestServer(strict) as other,
            aiohttp.ClientSession(str(server.make_url("/"))) as http,
        ):
            yield App(http, client, proxy, str(other.make_url("/")))


async def test_a_visitor_is_told_what_is_left_and_then_when_to_come_again(app: App) -> None:
    first = await app.get("/")
    assert (first.status, await first.json()) == (200, {"left": 2})
    assert first.headers["RateLimit-Policy"] == '"site";q=3;w=10800'
    assert first.headers["RateLimit"] == '"site";r=2;t=3600'
    assert "Degraded" not in first.headers
    assert (await app.get("/stream")).status == 200
    assert (await app.get("/gone")).headers["RateLimit"].startswith('"site";r=0;')
    refused = await app.get("/")
    assert refused.status == 429
    assert refused.content_type == "application/problem+json"
    assert (await refused.json())["code"] == "rate_limited"
    assert 3600 <= int(refused.headers["Retry-After"]) <= 3961
    assert refused.headers["RateLimit"].startswith('"site";r=0;t=')


async def test_each_route_has_its_policies_whatever_its_parameters(app: App) -> None:
    assert [(await app.get(f"/login/{n}")).status for n in range(2)] == [200, 429]
    assert [(await app.get("/health")).status for _ in range(5)] == [200] * 5
    assert "RateLimit" not in (await app.get("/health")).headers


async def test_a_verified_shop_counts_and_what_a_header_claims_does_not(app: App) -> None:
    async def left(**headers: str) -> Any:
        return (await (await app.get("/", **headers)).json()).get("left")

    assert await left(session="secret-of-a", X_Forwarded_For="198.51.100.1") == 2
    assert await left(session="secret-of-a", X_Forwarded_For="198.51.100.2") == 1
    assert await left(session="forged", X_Forwarded_For="6.6.6.1, 203.0.113.9") == 2
    assert await left(X_Forwarded_For="6.6.6.2, 203.0.113.9", X_Shop="b.myshopify.com") == 1
    assert await left(X_Forwarded_For="203.0.113.10") == 2


async def test_a_limiter_that_is_away_refuses_nobody_but_where_it_is_told_to(app: App) -> None:
    await app.proxy.refuses()
    for _ in range(5):
        answer = await app.get("/")
        assert (answer.status, answer.headers["Degraded"]) == (200, "limits;local")
    strict = await app.get(app.strict)
    assert strict.status == 503
    assert strict.headers["Retry-After"] == "1"


async def test_while_it_is_away_the_last_that_was_seen_is_kept_to(
    app: App, monkeypatch: Any
) -> None:
    monkeypatch.setattr(limiter, "FIRST_PAUSE_S", 60.0)
    assert (await (await app.get("/")).json()) == {"left": 2}
    await app.proxy.refuses()
    answers = [await app.get("/") for _ in range(4)]
    assert [one.status for one in answers] == [200, 200, 429, 429]
    assert answers[-1].headers["Degraded"] == "limits;local"


async def test_a_policy_that_does_not_exist_refuses_nobody_and_is_logged(
    app: App, caplog: Any
) -> None:
    assert (await app.get("/typo")).status == 200
    assert "nope" in caplog.text


async def test_who_is_on_the_deny_list_is_not_told_to_wait(app: App) -> None:
    await app.client.put_limit_list("deny", [{"subject": "203.0.113.0/24", "reason": "a test"}])

    async def refused() -> bool:
        return (await app.get("/", X_Forwarded_For="203.0.113.9")).status == 403

    await eventually(refused, within_s=10)
    denied = await app.get("/", X_Forwarded_For="203.0.113.9")
    assert (await denied.json())["code"] == "denied_by_list"
    assert "Retry-After" not in denied.headers
    assert (await app.get("/", X_Forwarded_For="198.51.100.1")).status == 200
