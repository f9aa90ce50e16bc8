"""An app at our Shopify: how a service is told of it, and the sessions that it would have."""

from typing import Any

from testkit.shopify.server import MockShopify

DAY_MS = 86_400_000


def settings(shopify: MockShopify, **more: Any) -> dict[str, Any]:
    """Of a service of this app."""
    return {
        "shopify_api_key": shopify.api_key,
        "shopify_api_secret": shopify.api_secret,
        "shopify_shop_origin": shopify.origin,
        "shopify_app_url": "https://app.example.com",
    } | more


def session(
    shopify: MockShopify, shop: str, *, left_s: float = 3600, **more: Any
) -> dict[str, Any]:
    """A new pair of the shop's, as Shopify's libraries keep it; it ends all pairs before it.
    `left_s`: what is said of its access token, whatever is true."""
    pair = shopify.pair(shop)
    now_ms = int(shopify.clock.now() * 1000)
    return {
        "id": f"offline_{shop}",
        "shop": shop,
        "state": "",
        "isOnline": False,
        "scope": pair.access.scope,
        "accessToken": pair.access.token,
        "expires": now_ms + int(left_s * 1000),
        "refreshToken": pair.refresh,
        "refreshTokenExpires": now_ms + 90 * DAY_MS,
    } | more


def is_live(shopify: MockShopify, document: dict[str, Any]) -> bool:
    """Does Shopify take both tokens of the session?"""
    wallet, now = shopify.shop(document["shop"]).wallet, shopify.clock.now()
    pair = wallet.pairs.get(document["refreshToken"])
    has_access = wallet.find(document["accessToken"], now) is not None
    return has_access and pair is not None and not pair.revoked and pair.refreshed_at is None


def works(shopify: MockShopify, shop: str, access_token: str) -> bool:
    return shopify.shop(shop).wallet.find(access_token, shopify.clock.now()) is not None
