"""Shopify's own Python packages are content with our Shopify."""

import asyncio
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import httpx
import orjson
import pytest
from shopify_app import ShopifyApp, TokenExchangeAccessToken

from testkit.shopify import signing
from testkit.shopify.authorize import callback_query
from testkit.shopify.rules import Dead
from testkit.shopify.server import MockShopify
from testkit.shopify.webhooks import Family

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is of Python 2
    import shopify as legacy
    from shopify import session_token as legacy_tokens

SHOP = "one.myshopify.com"
LONG_AGO = "2020-01-01T00:00:00+00:00"
VERSION = "2026-10"


class ToOurs(httpx.HTTPTransport):
    """What is meant for a shop comes to our port, with the shop as `Host`."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=self._port)
        return super().handle_request(request)


@pytest.fixture
def http(shopify: MockShopify) -> Iterator[httpx.Client]:
    with httpx.Client(transport=ToOurs(shopify.port), trust_env=False) as client:
        yield client


@pytest.fixture
def app(shopify: MockShopify) -> ShopifyApp:
    return ShopifyApp(client_id=shopify.api_key, client_secret=shopify.api_secret)


def asked(token: str) -> Any:
    """A request of the app's page."""
    headers = {"authorization": f"Bearer {token}"}
    return {"method": "GET", "url": "https://app.example.com/", "headers": headers, "body": ""}


async def exchanged(
    shopify: MockShopify, app: ShopifyApp, http: httpx.Client, mode: str = "offline", **how: Any
) -> TokenExchangeAccessToken:
    verified = app.verify_admin_ui_ext_req(asked(shopify.session_token(SHOP, user_id=7)))
    assert verified.ok, verified.log.code
    result = await asyncio.to_thread(
        app.exchange_using_token_exchange, mode, verified.id_token, http_client=http, **how
    )
    assert result.ok, result.log
    assert result.access_token is not None
    return result.access_token


async def refreshed(app: ShopifyApp, http: httpx.Client, token: TokenExchangeAccessToken) -> Any:
    expired = replace(token, expires=LONG_AGO)
    return await asyncio.to_thread(
        app.refresh_token_exchanged_access_token, expired, http_client=http
    )


async def test_the_new_package_exchanges_and_refreshes(
    shopify: MockShopify, app: ShopifyApp, http: httpx.Client
) -> None:
    first = await exchanged(shopify, app, http)
    assert (first.shop, first.access_mode) == ("one", "offline")
    result = await refreshed(app, http, first)
    assert result.ok, result.log
    assert result.access_token.token != first.token
    assert result.access_token.refresh_token != first.refresh_token


async def test_the_new_package_knows_users_and_tokens_that_last(
    shopify: MockShopify, app: ShopifyApp, http: httpx.Client
) -> None:
    online = await exchanged(shopify, app, http, "online")
    assert online.user is not None
    assert (online.user.id, online.refresh_token) == (7, None)
    lasting = await exchanged(shopify, app, http, expiring=False)
    assert (lasting.expires, lasting.refresh_token) == (None, None)


@pytest.mark.parametrize("dead", list(Dead))
async def test_the_new_package_hears_that_a_refresh_token_is_dead(
    shopify: MockShopify, app: ShopifyApp, http: httpx.Client, dead: Dead
) -> None:
    shopify.rules.dead_refresh, shopify.rules.dead_refresh_status = dead, 400
    first = await exchanged(shopify, app, http)
    shopify.uninstall(SHOP)
    result = await refreshed(app, http, first)
    assert not result.ok
    assert (result.log.code == "invalid_grant") is (dead is Dead.INVALID_GRANT)


async def test_the_new_package_asks_with_client_credentials(
    shopify: MockShopify, app: ShopifyApp, http: httpx.Client
) -> None:
    shopify.shop(SHOP).own_organisation = True
    result = await asyncio.to_thread(app.exchange_using_client_credentials, "one", http_client=http)
    assert result.ok, result.log


async def test_the_new_package_queries(
    shopify: MockShopify, app: ShopifyApp, http: httpx.Client
) -> None:
    token = shopify.pair(SHOP).access.token

    async def ask(query: str, given: str = token) -> Any:
        return await asyncio.to_thread(
            app.admin_graphql_request,
            query,
            shop="one",
            access_token=given,
            api_version=VERSION,
            http_client=http,
        )

    told = await ask("{ shop { myshopifyDomain } }")
    assert told.data == {"shop": {"myshopifyDomain": SHOP}}
    assert told.extensions["cost"]["throttleStatus"]["restoreRate"] == 100
    assert (await ask("{ nothing }")).log.code == "graphql_errors"
    assert (await ask("{ shop { name } }", "shpat_none")).response.status == 401


@pytest.mark.parametrize("family", list(Family))
async def test_the_new_package_takes_our_webhooks(
    shopify: MockShopify, app: ShopifyApp, family: Family
) -> None:
    delivery = shopify.webhooks.queue(SHOP, "orders/create", {"note": "Καλημέρα"}, family=family)
    signature = signing.webhook_hmac(delivery.body, shopify.api_secret)
    request: Any = {
        "method": "POST",
        "url": "https://app.example.com/webhooks",
        "headers": delivery.headers(signature=signature, api_version=VERSION),
        "body": delivery.body.decode(),
    }
    assert app.verify_webhook_req(request).ok
    assert not app.verify_webhook_req(request | {"body": request["body"] + " "}).ok


class OpensOurs(urllib.request.BaseHandler):
    handler_order = 100  # before the one that names the host

    def __init__(self, port: int) -> None:
        self._port = port

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        request.add_unredirected_header("Host", request.host)
        request.type, request.host = "http", f"127.0.0.1:{self._port}"
        return request


@pytest.fixture
def old(shopify: MockShopify, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The older package."""
    no_proxy = urllib.request.ProxyHandler({})
    opener = urllib.request.build_opener(no_proxy, OpensOurs(shopify.port))
    monkeypatch.setattr(urllib.request, "_opener", opener)
    monkeypatch.setattr(legacy.Session, "api_key", shopify.api_key)
    monkeypatch.setattr(legacy.Session, "secret", shopify.api_secret)
    yield legacy
    legacy.ShopifyResource.clear_session()


async def test_the_older_package_comes_back_from_consent(shopify: MockShopify, old: Any) -> None:
    session = old.Session(SHOP, VERSION)
    params = dict(callback_query(shopify, SHOP, state="s1"))
    token = await asyncio.to_thread(session.request_token, params)
    assert token == shopify.shop(SHOP).wallet.lasting.token  # type: ignore[union-attr]
    params["shop"] = "two.myshopify.com"
    with pytest.raises(Exception, match="HMAC"):
        old.Session(SHOP, VERSION).request_token(params)


async def test_the_older_package_reads_and_writes(shopify: MockShopify, old: Any) -> None:
    shopify.shop(SHOP).catalog.fill(5)
    token = shopify.pair(SHOP).access.token

    def work() -> list[str]:
        old.ShopifyResource.activate_session(old.Session(SHOP, VERSION, token))
        assert old.Shop.current().myshopify_domain == SHOP
        made = old.Product.create({"title": "Olives"})
        assert old.Product.find(made.id).title == "Olives"
        page = old.Product.find(limit=4)
        titles = [each.title for each in page]
        while page.has_next_page():
            page = page.next_page()
            titles += [each.title for each in page]
        said = orjson.loads(old.GraphQL().execute("{ products(first: 9) { nodes { title } } }"))
        assert [each["title"] for each in said["data"]["products"]["nodes"]] == titles
        assert old.Limits.credit_used() >= 1
        return titles

    titles = await asyncio.to_thread(work)
    assert titles == ["P0", "P1", "P2", "P3", "P4", "Olives"]


async def test_the_older_package_signs_as_our_older_form_does(old: Any) -> None:
    query = "a=x+y%26z&b%3D=1%25&ids%5B%5D=1&ids%5B%5D=2&shop=one.myshopify.com&timestamp=1"
    pairs = parse_qsl(query)
    params = dict(pairs) | {"ids[]": ["1", "2"]}
    made = signing.legacy_query_hmac(pairs, old.Session.secret)
    assert made == old.Session.calculate_hmac(params)


async def test_the_older_package_reads_our_session_tokens(shopify: MockShopify) -> None:
    bearer = f"Bearer {shopify.session_token(SHOP)}"
    said = legacy_tokens.decode_from_header(bearer, shopify.api_key, shopify.api_secret)
    assert said["dest"] == f"https://{SHOP}"
