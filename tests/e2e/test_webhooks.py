"""Shopify tells of shops: what it tells becomes jobs, and sessions end when it says so."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import aiohttp

from testkit.shopify.server import MockShopify
from testkit.shopify.webhooks import Family
from testkit.signals import eventually
from testkit.stack import StackProcess

WITHIN_S = 15.0


async def put_session(session: aiohttp.ClientSession, shop: str, token: str) -> None:
    document = {"id": f"offline_{shop}", "shop": shop, "isOnline": False, "accessToken": token}
    async with session.put(f"/v1/sessions/offline_{shop}", json=document) as answer:
        assert answer.status == 200, await answer.text()


async def status(session: aiohttp.ClientSession, path: str) -> int:
    async with session.get(path) as answer:
        return answer.status


async def jobs(session: aiohttp.ClientSession, shop: str) -> list[Any]:
    async with session.get("/v1/jobs", params={"queue": "webhooks", "shop": shop}) as answer:
        found: list[Any] = (await answer.json())["items"]
        return found


async def test_a_webhook_is_a_job_that_the_app_leases_once_however_often_it_is_sent(
    stack: StackProcess, shopify: MockShopify
) -> None:
    shop = "webhooks-one.myshopify.com"
    payload = {"id": 820982911946154500, "note": "Ευχαριστώ 🌷"}
    async with stack.session() as session:
        for family in Family:
            sent = await shopify.webhooks.deliver(shop, "orders/create", payload, family=family)
            assert [sent.statuses[-1], await shopify.webhooks.send(sent)] == [200, 200]
        forged = await shopify.webhooks.send(sent, secret="shpss_of_somebody_else")
        assert forged == 401
        found = await jobs(session, shop)
        assert [job["kind"] for job in found] == ["shopify.orders/create"] * 2
        assert [job["args"]["payload"] for job in found] == [payload, payload]
        assert [job["args"].get("action") for job in found] == ["create", None]


async def test_a_hundred_at_once_are_all_taken_within_the_second_that_shopify_likes(
    stack: StackProcess, shopify: MockShopify
) -> None:
    shop = "webhooks-many.myshopify.com"

    async def timed(number: int) -> float:
        started = time.monotonic()
        sent = await shopify.webhooks.deliver(shop, "products/update", {"id": number})
        assert sent.statuses == [200]
        return time.monotonic() - started

    took = await asyncio.gather(*map(timed, range(100)))
    assert sorted(took)[95] < 1.0
    async with stack.session() as session:
        assert len(await jobs(session, shop)) == 50, "a page of them"


async def test_sessions_end_with_the_installation_but_not_with_the_one_before(
    stack: StackProcess, shopify: MockShopify
) -> None:
    shop = "webhooks-leaves.myshopify.com"
    path = f"/v1/sessions/offline_{shop}"
    async with stack.session() as session:
        await put_session(session, shop, "shpat_first")
        assert await shopify.webhooks.send(left := shopify.webhooks.uninstall(shop)) == 200
        assert await status(session, path) == 404
        shopify.install(shop)
        await put_session(session, shop, "shpat_second")
        assert await shopify.webhooks.send(left) == 200
        assert await status(session, path) == 200
        changed = shopify.webhooks.change_scopes(shop, "read_orders,write_products")
        assert await shopify.webhooks.send(changed) == 200
        async with session.get(path) as answer:
            assert (await answer.json())["scope"] == "read_orders,write_products"


async def test_a_shop_to_be_forgotten_is_forgotten_by_every_service_without_a_bus(
    stack: StackProcess, shopify: MockShopify
) -> None:
    shop = "webhooks-forgotten.myshopify.com"
    override = f"/v1/ratelimits/overrides/{shop}/api"
    async with stack.session() as session:
        await put_session(session, shop, "shpat_third")
        async with session.put(override, json={"burst": 500}) as answer:
            assert answer.status == 200, await answer.text()
        await shopify.webhooks.deliver(shop, "orders/create", {"email": "jo@example.com"})
        redacted = datetime.now(UTC).isoformat()
        sent = await shopify.webhooks.deliver(shop, "shop/redact", {}, triggered_at=redacted)
        assert sent.statuses == [200]
        assert await status(session, f"/v1/sessions/offline_{shop}") == 404

        async def everywhere() -> bool:
            told, order = await jobs(session, shop)
            is_kept = told["args"]["topic"] == "shop/redact" and told["state"] == "ready"
            limits = await status(session, override)
            return bool(is_kept and order["args"] == {} and limits == 404)

        await eventually(everywhere, WITHIN_S)
