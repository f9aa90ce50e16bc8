"""Calls to Shopify at the pace of a limiter, with tokens that a deployment keeps."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from mainstay import errors as answers
from mainstay.client import Client
from mainstay.handler import Reservation, Unavailable
from mainstay.shopify import errors
from mainstay.shopify.admin import Admin
from mainstay.shopify.shops import Origins
from mainstay.shopify.throttle import UNKNOWN_COST
from mainstay.shopify.tokens import FixedToken, KeptTokens, Token
from mainstay.testing import FakeContext
from testkit.faults import TcpProxy
from testkit.scripts import Answer, Script, reset, told

SHOP = "flowers.myshopify.com"
STATUS = {"maximumAvailable": 1000.0, "currentlyAvailable": 900, "restoreRate": 100}
COST = {"requestedQueryCost": 92, "actualQueryCost": 12, "throttleStatus": STATUS}
ANSWER = {"data": {}, "extensions": {"cost": COST}}


@pytest_asyncio.fixture
async def script() -> AsyncIterator[Script]:
    async with Script() as made:
        yield made


def admin_of(script: Script, ctx: Any, tokens: Any = None, **options: Any) -> Admin:
    origins = Origins(f"{script.url}/{{shop}}")
    return Admin(tokens or FixedToken("shpat_x"), paced=ctx, origins=origins, **options)


async def test_what_a_query_cost_before_is_reserved_and_the_rest_given_back(
    script: Script,
) -> None:
    ctx = FakeContext(shop=SHOP)
    script.says(told(ANSWER))
    async with admin_of(script, ctx) as admin:
        for _ in range(2):
            await admin.shop(SHOP).graphql("{ a }")
        await admin.shop(SHOP).graphql("{ a }", cost=7)
    assert [slot.cost for slot in ctx.reserved] == [UNKNOWN_COST, 92, 7]
    assert ctx.refunded == [UNKNOWN_COST - 12, 80]
    assert (ctx.reserved[0].policy, ctx.reserved[0].shop) == ("shopify-gql", SHOP)
    assert [one["available"] for one in ctx.observed] == [900.0] * 3


async def test_a_slot_further_ahead_than_there_is_time_is_not_taken(script: Script) -> None:
    ctx = FakeContext(shop=SHOP, reservations=[Reservation(allowed=False, wait_ms=9_000)])
    async with admin_of(script, ctx) as admin:
        with pytest.raises(errors.Throttled) as caught:
            await admin.shop(SHOP).graphql("{ a }", within_s=3)
    assert caught.value.retry_after_s == 9.0
    assert ctx.reserved[0].max_wait_ms <= 3_000
    assert script.asked == []


async def test_who_has_time_waits_for_the_pace(script: Script) -> None:
    refused = Reservation(allowed=False, wait_ms=50)
    ctx = FakeContext(shop=SHOP, reservations=[refused, Reservation(allowed=True, wait_ms=50)])
    script.says(told(ANSWER))
    began = asyncio.get_running_loop().time()
    async with admin_of(script, ctx) as admin:
        await admin.shop(SHOP).graphql("{ a }")
    assert asyncio.get_running_loop().time() - began >= 0.1


@pytest.mark.parametrize(
    "slot", [Unavailable("away"), Reservation(allowed=False, unsatisfiable=True)]
)
async def test_a_limiter_that_is_away_or_wrong_holds_up_nobody(
    script: Script, slot: Reservation | Unavailable
) -> None:
    ctx = FakeContext(shop=SHOP, reservations=[slot])
    script.says(told(ANSWER))
    async with admin_of(script, ctx) as admin:
        assert (await admin.shop(SHOP).graphql("{ a }")).data == {}


async def test_a_refusal_by_shopify_is_told_to_the_limiter(script: Script) -> None:
    ctx = FakeContext(shop=SHOP)
    script.says(
        told({}, status=429, Retry_After="0.2"),
        told({"products": []}, X_Shopify_Shop_Api_Call_Limit="32/40"),
    )
    async with admin_of(script, ctx) as admin:
        await admin.shop(SHOP).rest("GET", "products")
    assert ctx.refunded == [1]
    assert [one["retry_after_ms"] for one in ctx.observed] == [200, None]
    assert (ctx.observed[1]["available"], ctx.observed[1]["maximum"]) == (8, 40)
    assert {slot.policy for slot in ctx.reserved} == {"shopify-rest"}


async def test_a_call_with_a_token_that_is_refused_costs_nothing(script: Script) -> None:
    ctx = FakeContext(shop=SHOP)
    script.says(told({"errors": "[API] Invalid API key"}, status=401))
    async with admin_of(script, ctx) as admin:
        with pytest.raises(errors.TokenRefused):
            await admin.shop(SHOP).graphql("{ a }")
    assert ctx.refunded == [UNKNOWN_COST]


async def test_what_was_not_sent_is_given_back(script: Script) -> None:
    ctx = FakeContext(shop=SHOP)
    script.says(reset)
    async with admin_of(script, ctx, attempts=1) as admin, TcpProxy.before(script.url) as proxy:
        with pytest.raises(errors.NetworkError):
            await admin.shop(SHOP).graphql("{ a }")
        assert ctx.refunded == []
        await proxy.refuses()
        admin.origins = Origins(f"{proxy.url(script.url)}/{{shop}}")
        with pytest.raises(errors.NetworkError):
            await admin.shop(SHOP).graphql("{ a }")
        assert ctx.refunded == [UNKNOWN_COST]


async def test_the_pace_of_a_deployment_is_learned_from_shopify(
    script: Script, limit_service: Any
) -> None:
    script.says(told(ANSWER))
    async with limit_service.client() as client, admin_of(script, client) as admin:
        await admin.shop(SHOP).graphql("{ a }")
        left = (await client.peek("shopify-gql", shop=SHOP)).limits[0]
    assert 890 <= left.remaining <= 1000


async def test_a_thousand_shops_at_once_never_see_anothers_token(script: Script) -> None:
    async def of_the_shop(request: web.Request) -> web.Response:
        shop = request.path.split("/")[1]
        assert request.headers["X-Shopify-Access-Token"] == f"shpat_{shop}"
        return web.json_response({"data": shop})

    class Each:
        async def token(self, shop: str) -> Token:
            await asyncio.sleep(0)
            return Token(f"shpat_{shop}", 1)

        async def rejected(self, shop: str, token: Token) -> Token:
            raise AssertionError

    script.says(of_the_shop)
    shops = [f"shop-{number}.myshopify.com" for number in range(1_000)]
    async with admin_of(script, None, Each()) as admin:
        found = await asyncio.gather(
            *(admin.shop(shop).graphql("{ a }", max_age_s=60) for shop in shops)
        )
        again = await asyncio.gather(
            *(admin.shop(shop).graphql("{ a }", max_age_s=60) for shop in shops)
        )
    assert [answer.data for answer in found] == shops
    assert [(answer.data, answer.cached) for answer in again] == [(shop, True) for shop in shops]


def kept(version: int, **more: Any) -> Answer:
    token = {"access_token": f"shpat_{version}", "scope": "", "expires": None, "version": version}
    return told({**token, **more})


def problem(status: int, code: str, **more: Any) -> Answer:
    return told({"code": code, "detail": "no", "status": status, **more}, status=status)


@pytest_asyncio.fixture
async def deployment() -> AsyncIterator[Script]:
    async with Script() as made:
        yield made


@pytest_asyncio.fixture
async def client(deployment: Script) -> AsyncIterator[Client]:
    async with Client(deployment.url, "key", attempts=1) as made:
        yield made


async def test_a_token_is_asked_for_once_however_many_want_it(
    deployment: Script, client: Client
) -> None:
    deployment.says(kept(1))
    tokens = KeptTokens(client)
    found = await asyncio.gather(*(tokens.token(SHOP) for _ in range(50)))
    assert {token.value for token in found} == {"shpat_1"}
    (asked,) = deployment.asked
    assert (asked.method, asked.path) == ("GET", f"/v1/shops/{SHOP}/token")


async def test_a_token_is_rejected_once_however_many_were_refused(
    deployment: Script, client: Client
) -> None:
    deployment.says(kept(1), kept(2))
    tokens = KeptTokens(client)
    old = await tokens.token(SHOP)
    found = await asyncio.gather(*(tokens.rejected(SHOP, old) for _ in range(50)))
    assert {token.value for token in found} == {"shpat_2"}
    assert (await tokens.token(SHOP)).version == 2
    asked = deployment.asked[1:]
    assert [(one.path, one.document) for one in asked] == [
        (f"/v1/shops/{SHOP}/token/reject", {"version": 1})
    ]


async def test_a_token_is_not_remembered_beyond_its_end(deployment: Script, client: Client) -> None:
    deployment.says(kept(1, expires=1_000), kept(2), kept(3))
    tokens = KeptTokens(client, remembered_s=0.05)
    assert [(await tokens.token(SHOP)).version for _ in range(3)] == [1, 2, 2]
    # Longer than it is remembered: time itself is what ends it.
    await asyncio.sleep(0.06)
    assert (await tokens.token(SHOP)).version == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (problem(409, "reauth_required"), errors.ReauthRequired),
        (problem(404, "session_not_found"), errors.ReauthRequired),
        (problem(409, "shop_unavailable"), errors.ShopUnavailable),
        (problem(503, "refresh_in_progress"), errors.TokenUnavailable),
        (problem(503, "upstream_unavailable"), errors.TokenUnavailable),
        (reset, errors.TokenUnavailable),
        (problem(403, "missing_scope"), answers.Denied),
        (problem(401, "unauthenticated"), answers.Unauthenticated),
    ],
)
async def test_who_has_no_token_is_told_why(
    deployment: Script, client: Client, script: Script, answer: Answer, kind: type[Exception]
) -> None:
    deployment.says(answer)
    async with admin_of(script, None, KeptTokens(client)) as admin:
        with pytest.raises(kind):
            await admin.shop(SHOP).graphql("{ a }")
    assert script.asked == []


async def test_where_the_merchant_must_go_is_told(deployment: Script, client: Client) -> None:
    url = f"https://{SHOP}/admin/oauth/authorize"
    deployment.says(problem(409, "reauth_required", authorize_url=url))
    with pytest.raises(errors.ReauthRequired) as caught:
        await KeptTokens(client).token(SHOP)
    assert caught.value.authorize_url == url


async def test_a_deployment_that_hangs_costs_the_calls_own_time_alone(
    deployment: Script, client: Client, script: Script
) -> None:
    async def hangs(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    deployment.says(hangs)
    async with admin_of(script, None, KeptTokens(client)) as admin:
        with pytest.raises(errors.DeadlineExceeded):
            await admin.shop(SHOP).graphql("mutation { a }", within_s=0.2)
