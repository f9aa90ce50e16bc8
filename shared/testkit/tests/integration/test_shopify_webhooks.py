"""The mock sends webhooks as Shopify does: signed, again for four hours, in any order."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from localstack.servers import ports
from testkit.shopify.rules import DAY_S, HOUR_S
from testkit.shopify.server import MockShopify
from testkit.shopify.webhooks import COMPLIANCE, Family, Webhooks

SHOP = "one.myshopify.com"


class App:
    """Answers what it is told to, and keeps what came."""

    def __init__(self) -> None:
        self.status = 200
        self.is_stuck = False
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.read())
        if self.is_stuck:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})

    @property
    def topics(self) -> list[str]:
        return [each.headers["X-Shopify-Topic"] for each in self.requests]


@pytest_asyncio.fixture
async def app(shopify: MockShopify) -> AsyncIterator[App]:
    app, served = App(), web.Application()
    served.router.add_post("/webhooks", app.take)
    runner = web.AppRunner(served, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shopify.webhooks.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks"
    yield app
    await runner.cleanup()


@pytest.fixture
def webhooks(shopify: MockShopify) -> Webhooks:
    return shopify.webhooks


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    made = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return base64.b64decode(signature) == made


async def test_a_webhook_is_signed_over_its_bytes(
    shopify: MockShopify, webhooks: Webhooks, app: App
) -> None:
    sent = await webhooks.deliver(SHOP, "orders/create", {"id": 1, "note": "Καλημέρα"})
    (request,) = app.requests
    assert sent.delivered
    said = request.headers
    assert said["X-Shopify-Topic"] == "orders/create"
    assert said["X-Shopify-Shop-Domain"] == SHOP
    assert said["X-Shopify-Webhook-Id"] == sent.webhook_id
    assert said["X-Shopify-Triggered-At"] == sent.triggered_at
    assert is_signed(app.bodies[0], said["X-Shopify-Hmac-Sha256"], shopify.api_secret)


async def test_the_newer_family_has_other_names(
    shopify: MockShopify, webhooks: Webhooks, app: App
) -> None:
    await webhooks.deliver(SHOP, "orders/create", b'{ "id":1 }', family=Family.EVENTS)
    (request,) = app.requests
    assert not [name for name in request.headers if name.lower().startswith("x-shopify-")]
    assert (request.headers["shopify-topic"], request.headers["shopify-action"]) == (
        "orders/create", "create",
    )  # fmt: skip
    assert is_signed(b'{ "id":1 }', request.headers["shopify-hmac-sha256"], shopify.api_secret)


async def test_after_a_rotation_the_old_secret_may_sign(
    shopify: MockShopify, webhooks: Webhooks, app: App
) -> None:
    old = shopify.api_secret
    shopify.rotate_secret()
    for signs_old, secret in ((True, old), (False, shopify.api_secret)):
        shopify.rules.webhooks_signed_with_old = signs_old
        await webhooks.deliver(SHOP, "orders/create", {})
        said = app.requests[-1].headers["X-Shopify-Hmac-Sha256"]
        assert is_signed(app.bodies[-1], said, secret)


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_what_fails_comes_again_eight_times_within_four_hours(
    shopify: MockShopify, webhooks: Webhooks, app: App, status: int
) -> None:
    shopify.rules.removes_subscriptions = True
    app.status = status
    sent = await webhooks.deliver(SHOP, "orders/create", {"id": 1})
    assert await webhooks.run_due() == []
    for _ in range(4 * 60):
        shopify.clock.advance(60)
        await webhooks.run_due()
    assert sent.statuses == [status] * 9
    assert len(set(app.bodies)) == 1
    assert len({each.headers["X-Shopify-Webhook-Id"] for each in app.requests}) == 1
    shopify.clock.advance(DAY_S)
    assert await webhooks.run_due() == []
    assert webhooks.removed == {"orders/create"}
    assert webhooks.queue(SHOP, "orders/create", {}).due_at is None


async def test_what_comes_through_at_last_is_not_sent_again(
    shopify: MockShopify, webhooks: Webhooks, app: App
) -> None:
    app.status = 503
    sent = await webhooks.deliver(SHOP, "orders/create", {})
    app.status = 200
    shopify.clock.advance(HOUR_S)
    assert await webhooks.run_due() == [sent]
    shopify.clock.advance(HOUR_S)
    assert await webhooks.run_due() == []


async def test_an_app_that_is_away_has_not_answered(webhooks: Webhooks) -> None:
    webhooks.url = f"http://127.0.0.1:{ports.free_port()}/webhooks"
    sent = await webhooks.deliver(SHOP, "orders/create", {})
    assert sent.statuses == [0]
    assert sent.due_at is not None


async def test_an_app_that_takes_too_long_has_not_answered(
    shopify: MockShopify, webhooks: Webhooks, app: App
) -> None:
    shopify.rules.webhook_timeout_s = 0.05
    app.is_stuck = True
    async with asyncio.timeout(2):
        sent = await webhooks.deliver(SHOP, "orders/create", {})
    assert sent.statuses == [0]
    assert len(app.requests) == 1


async def test_a_delivery_may_come_twice_and_in_another_order(webhooks: Webhooks, app: App) -> None:
    first = webhooks.queue(SHOP, "orders/create", {})
    webhooks.queue(SHOP, "orders/updated", {})
    await webhooks.run_due(reversed)
    assert app.topics == ["orders/updated", "orders/create"]
    await webhooks.send(first)
    ids = [each.headers["X-Shopify-Webhook-Id"] for each in app.requests]
    assert ids.count(first.webhook_id) == 2


@pytest.mark.parametrize("is_back", [False, True])
@pytest.mark.parametrize("redacts_reinstalled", [False, True])
async def test_an_uninstall_kills_the_tokens_and_redacts_after_two_days(
    shopify: MockShopify, webhooks: Webhooks, app: App, is_back: bool, redacts_reinstalled: bool
) -> None:
    shopify.rules.redacts_reinstalled = redacts_reinstalled
    pair = shopify.pair(SHOP)
    webhooks.uninstall(SHOP)
    assert pair.revoked
    await webhooks.run_due()
    assert app.topics == ["app/uninstalled"]
    if is_back:
        shopify.install(SHOP)
    shopify.clock.advance(2 * DAY_S + 1)
    await webhooks.run_due()
    redacted = not is_back or redacts_reinstalled
    assert app.topics[1:] == (["shop/redact"] if redacted else [])


async def test_scopes_that_change_are_told_and_hold_for_new_tokens(
    shopify: MockShopify, webhooks: Webhooks, app: App
) -> None:
    sent = webhooks.change_scopes(SHOP, "read_orders,write_products")
    await webhooks.run_due()
    assert app.topics == ["app/scopes_update"]
    assert b'"current": ["read_orders", "write_products"]' in sent.body
    assert shopify.pair(SHOP).access.scope == "read_orders,write_products"


async def test_the_topics_about_customers_are_sent(webhooks: Webhooks, app: App) -> None:
    for topic in COMPLIANCE[:2]:
        webhooks.about_customer(SHOP, topic)
    await webhooks.run_due()
    assert app.topics == list(COMPLIANCE[:2])


async def test_another_process_may_have_webhooks_sent(shopify: MockShopify, app: App) -> None:
    async with aiohttp.ClientSession(shopify.url) as http:
        asked = {"topic": "orders/create", "payload": {"id": 1}}
        async with http.post(f"/_ctl/shops/{SHOP}/webhook", json=asked) as got:
            assert (await got.json())["statuses"] == [200]
        async with http.post(f"/_ctl/shops/{SHOP}/uninstall") as got:
            assert (await got.json())["topic"] == "app/uninstalled"
        async with http.post("/_ctl/clock", json={"advance": 3 * DAY_S}) as got:
            assert got.status == 200
        async with http.post("/_ctl/webhooks", json={}) as got:
            assert [each["topic"] for each in (await got.json())["sent"]] == ["shop/redact"]
    assert app.topics == ["orders/create", "app/uninstalled", "shop/redact"]
