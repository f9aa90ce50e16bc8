"""Tokens that renew themselves, before a Shopify that loses answers and means what it says."""

import asyncio
import time
from typing import Any

import pytest

from testkit.shopify.faults import Fault
from testkit.shopify.rules import Retry
from testkit.shopify.server import MockShopify

SHOP = "greek-olives.myshopify.com"
TOKEN = f"/v1/shops/{SHOP}/token"
PATH = f"/v1/sessions/offline_{SHOP}"
DAY_MS = 86_400_000


def now_ms() -> int:
    return int(time.time() * 1000)


def at(shopify: MockShopify, **more: Any) -> dict[str, Any]:
    """The settings of an app at this Shopify."""
    return {
        "shopify_api_key": shopify.api_key,
        "shopify_api_secret": shopify.api_secret,
        "shopify_shop_origin": shopify.origin,
        "shopify_app_url": "https://app.example.com",
        **more,
    }


def session(shopify: MockShopify, shop: str = SHOP, *, left_s: float = 0, **more: Any) -> Any:
    """A pair of Shopify's, as an app would put it."""
    pair = shopify.pair(shop)
    return {
        "id": f"offline_{shop}",
        "shop": shop,
        "state": "",
        "isOnline": False,
        "scope": pair.access.scope,
        "accessToken": pair.access.token,
        "expires": now_ms() + int(left_s * 1000),
        "refreshToken": pair.refresh,
        "refreshTokenExpires": now_ms() + 90 * DAY_MS,
    } | more


async def put(service: Any, document: Any) -> int:
    answer = await service.call("PUT", f"/v1/sessions/{document['id']}", document)
    assert answer.status == 200, answer.raw
    return int(answer.body["version"])


def works(shopify: MockShopify, token: str, shop: str = SHOP) -> bool:
    return shopify.shop(shop).wallet.find(token, shopify.clock.now()) is not None


def refreshes(shopify: MockShopify, shop: str = SHOP) -> int:
    return len(shopify.called("token", shop, "refresh"))


@pytest.fixture(params=Retry)
def retry(request: pytest.FixtureRequest, shopify: MockShopify) -> Retry:
    shopify.rules.retry = request.param
    return shopify.rules.retry


async def test_a_token_that_has_ended_is_renewed(start: Any, shopify: MockShopify) -> None:
    service = await start(**at(shopify))
    version = await put(service, session(shopify))
    answer = await service.get(TOKEN)
    assert answer.status == 200, answer.raw
    assert works(shopify, answer.body["access_token"])
    assert answer.body["version"] > version
    assert answer.headers["Cache-Control"] == "no-store"
    assert 3_500_000 < answer.body["expires"] - now_ms() <= 3_600_000
    stored = await service.get(PATH)
    newest = shopify.shop(SHOP).wallet.newest
    assert newest is not None
    assert stored.body["refreshToken"] == newest.refresh
    assert stored.body["accessToken"] == newest.access.token


@pytest.mark.usefixtures("retry")
async def test_200_callers_on_two_replicas_are_one_refresh(
    start: Any, shopify: MockShopify
) -> None:
    replicas = [await start(**at(shopify)), await start(**at(shopify))]
    await put(replicas[0], session(shopify))
    shopify.faults.add(Fault(delay_s=0.3))
    answers = await asyncio.gather(*(replicas[n % 2].get(TOKEN) for n in range(200)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["access_token"] for answer in answers}) == 1
    assert works(shopify, answers[0].body["access_token"])
    assert refreshes(shopify) == 1
