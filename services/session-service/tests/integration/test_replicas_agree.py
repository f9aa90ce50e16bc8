"""What one replica has renewed, seen by another that remembers how it was."""

import time
from typing import Any

from testkit.shopify.server import MockShopify

SHOP = "greek-olives.myshopify.com"
ID = f"offline_{SHOP}"


def now_ms() -> int:
    return int(time.time() * 1000)


async def test_who_was_told_of_a_renewal_shows_no_session_from_before_it(
    start: Any, shopify: MockShopify
) -> None:
    settings = {
        "shopify_api_key": shopify.api_key,
        "shopify_api_secret": shopify.api_secret,
        "shopify_shop_origin": shopify.origin,
        "shopify_app_url": "https://app.example.com",
    }
    first, second = await start(**settings), await start(**settings)
    pair = shopify.pair(SHOP)
    ended = {
        "id": ID,
        "shop": SHOP,
        "accessToken": pair.access.token,
        "expires": now_ms() - 1000,
        "refreshToken": pair.refresh,
        "refreshTokenExpires": now_ms() + 86_400_000,
    }
    assert (await first.call("PUT", f"/v1/sessions/{ID}", ended)).status == 200
    assert (await second.get(f"/v1/sessions/{ID}")).body["accessToken"] == pair.access.token
    renewed = (await first.get(f"/v1/shops/{SHOP}/token")).body["access_token"]
    assert (await second.get(f"/v1/shops/{SHOP}/token")).body["access_token"] == renewed
    assert (await second.get(f"/v1/sessions/{ID}")).body["accessToken"] == renewed
