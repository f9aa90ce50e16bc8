"""An app that holds no token calls Shopify's Admin API through the gateway."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from testkit.shopify.buckets import Bucket
from testkit.shopify.server import MockShopify
from testkit.stack import StackProcess


@asynccontextmanager
async def app_of(
    stack: StackProcess, shopify: MockShopify, shop: str
) -> AsyncIterator[aiohttp.ClientSession]:
    """What holds a key for one shop's proxy and nothing else. The shop's tokens are stored."""
    pair = shopify.pair(shop)
    document = {
        "id": f"offline_{shop}",
        "shop": shop,
        "isOnline": False,
        "accessToken": pair.access.token,
        "refreshToken": pair.refresh,
        "expires": int((pair.access.expires_at or 0) * 1000),
        "refreshTokenExpires": int(pair.refresh_expires_at * 1000),
    }
    wanted = {"name": "proxy", "scopes": ["shopify:proxy"], "shop": shop}
    async with stack.session() as session:
        async with session.put(f"/v1/sessions/offline_{shop}", json=document) as answer:
            assert answer.status == 200, await answer.text()
        async with session.post("/v1/keys", json=wanted) as answer:
            key = (await answer.json())["key"]
    async with aiohttp.ClientSession(
        stack.gateway_url, headers={"Authorization": f"Bearer {key}"}
    ) as app:
        yield app


async def asked(
    app: aiohttp.ClientSession, method: str, path: str, **how: Any
) -> tuple[aiohttp.ClientResponse, Any]:
    async with app.request(method, path, **how) as answer:
        return answer, await answer.json()


async def test_an_app_without_a_token_changes_and_reads_a_shop(
    stack: StackProcess, shopify: MockShopify
) -> None:
    shop = "proxy-one.myshopify.com"
    base = f"/v1/shops/{shop}/admin"
    async with app_of(stack, shopify, shop) as app:
        for title in ("Λάδι", "Ελιές", "Ξίδι"):
            made, _ = await asked(
                app, "POST", f"{base}/rest/products.json", json={"product": {"title": title}}
            )
            assert made.status == 201
        titles, path = [], f"{base}/rest/products?limit=1"
        while path:
            answer, page = await asked(app, "GET", path)
            titles += [product["title"] for product in page["products"]]
            number = page["products"][0]["id"]
            following = answer.links.get("next")
            path = str(following["url"].relative()) if following else ""
        assert titles == ["Λάδι", "Ελιές", "Ξίδι"]
        one, product = await asked(app, "GET", f"{base}/rest/products/{number}")
        assert (one.status, product["product"]["title"]) == (200, "Ξίδι")

        # The token dies at Shopify's before its time.
        shopify.clock.advance(3_700)
        query = {"query": "{ products(first: 2) { nodes { title } } }"}
        answer, said = await asked(app, "POST", f"{base}/graphql", json=query)
        assert answer.status == 200, said
        assert [node["title"] for node in said["data"]["products"]["nodes"]] == ["Λάδι", "Ελιές"]
        assert len(shopify.called("token", shop)) == 1

        for other, status in ((f"/v1/shops/{shop}/token", 403),
                              ("/v1/shops/other.myshopify.com/admin/rest/shop", 403)):  # fmt: skip
            refused, _ = await asked(app, "GET", other)
            assert refused.status == status


async def test_a_crowd_stays_within_what_the_shop_takes(
    stack: StackProcess, shopify: MockShopify
) -> None:
    shop = "proxy-many.myshopify.com"
    bucket = Bucket(shopify.clock, maximum=1_000, restore_rate=500)
    shopify.install(shop).points = bucket
    query = {"query": "{ shop { name } } # cost:100"}
    async with app_of(stack, shopify, shop) as app:
        answers = await asyncio.gather(
            *(asked(app, "POST", f"/v1/shops/{shop}/admin/graphql", json=query) for _ in range(20))
        )
    assert [answer.status for answer, _ in answers] == [200] * 20
    assert all("errors" not in said for _, said in answers)
