"""Stores authorize the app, by a browser or inside Shopify's admin, and its tokens work there."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from localstack import plan
from testkit.shopify.server import MockShopify
from testkit.stack import StackProcess


def works(shopify: MockShopify, shop: str, token: str) -> bool:
    return shopify.shop(shop).wallet.find(token, shopify.clock.now()) is not None


async def token_of(stack: StackProcess, shop: str, query: str = "") -> Any:
    async with stack.session() as session, session.get(f"/v1/shops/{shop}/token{query}") as answer:
        return await answer.json()


@pytest.mark.parametrize(("mode", "query"), [("offline", ""), ("online", "?mode=online&user_id=1")])
async def test_a_browser_goes_to_shopify_and_comes_back_to_the_app(
    stack: StackProcess, shopify: MockShopify, mode: str, query: str
) -> None:
    shop = f"authorize-{mode}.myshopify.com"
    # Cookies of addresses are kept for this test alone.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(stack.gateway_url, cookie_jar=jar) as browser:
        begin = f"/auth?shop={shop}&mode={mode}&return_to=%2Fwelcome%3Fstep%3D1"
        async with browser.get(begin, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Mainstay-Road"]) == (302, "direct")
            authorize = answer.headers["Location"]
        async with browser.get(authorize, allow_redirects=False) as answer:
            callback = answer.headers["Location"]
        assert callback.startswith(f"{stack.gateway_url}/auth/callback?")
        async with browser.get(callback, allow_redirects=False) as answer:
            assert answer.status == 302, await answer.text()
            assert answer.headers["Location"] == f"{stack.gateway_url}/welcome?step=1"
        assert [each for each in jar if each.key.startswith("mainstay_oauth")] == []
        async with browser.get(callback, allow_redirects=False) as answer:
            assert (answer.status, (await answer.json())["code"]) == (403, "state_mismatch")
    token = await token_of(stack, shop, query)
    assert works(shopify, shop, token["access_token"])
    said = parse_qs(urlsplit(callback).query)
    logs = [stack.output, *stack.home.rglob("*.log")]
    assert len(logs) > len(plan.PROCESSES)
    for secret in (said["code"][0], said["state"][0], said["hmac"][0]):
        assert [path for path in logs if secret in path.read_text(errors="replace")] == []


async def test_an_app_inside_the_admin_exchanges_its_session_token(
    stack: StackProcess, shopify: MockShopify
) -> None:
    shop = "embedded-stories.myshopify.com"
    said = {"session_token": shopify.session_token(shop, user_id=7)}
    async with stack.session() as session:
        async with session.post("/v1/session-tokens/verify", json=said) as answer:
            claims = await answer.json()
        assert (claims["shop"], claims["user_id"]) == (shop, 7)
        async with session.post("/v1/token-exchange", json=said) as answer:
            granted = await answer.json()
        assert works(shopify, shop, granted["access_token"])
        assert (await token_of(stack, shop))["access_token"] == granted["access_token"]
        said = {"session_token": shopify.session_token(shop, aud="another-app")}
        async with session.post("/v1/token-exchange", json=said) as answer:
            assert answer.status == 401
            assert answer.headers["X-Shopify-Retry-Invalid-Session-Request"] == "1"


async def test_pages_of_an_embedded_app_are_framed_by_its_admin_alone(
    stack: StackProcess, shopify: MockShopify
) -> None:
    async with aiohttp.ClientSession(stack.gateway_url) as browser:
        for path in ("/auth?embedded=1&shop=", "/auth/bounce?shopify-reload=%2F&shop="):
            async with browser.get(f"{path}pages.myshopify.com") as answer:
                policy, text = answer.headers["Content-Security-Policy"], await answer.text()
            framed = "frame-ancestors https://pages.myshopify.com https://admin.shopify.com;"
            assert policy.endswith(framed)
            assert shopify.api_key in text
