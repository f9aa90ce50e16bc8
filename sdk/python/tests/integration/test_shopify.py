"""An app, the deployment that keeps its tokens, and a Shopify that means what it says."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from mainstay.shopify import errors
from mainstay.shopify.admin import Admin, AdminClient
from mainstay.shopify.pages import RestAnswer
from mainstay.shopify.shops import Origins
from mainstay.shopify.tokens import FixedToken, KeptTokens
from testkit.shopify.buckets import Bucket
from testkit.shopify.faults import Fault
from testkit.shopify.server import MockShopify

README = Path(__file__).resolve().parents[2] / "README.md"
SHOP = "greek-olives.myshopify.com"
NAME = "{ shop { name } }"
LIST = """
query ($cursor: String) {
  products(first: 3, after: $cursor) { nodes { title } pageInfo { hasNextPage endCursor } }
}
"""
CREATE = 'mutation { productCreate(product: {title: "Oil"}) { userErrors { message } } }'
REFUND = """
mutation ($idempotencyKey: String!) {
  refundCreate(input: {orderId: "gid://shopify/Order/1"}) @idempotent(key: $idempotencyKey) {
    refund { id } userErrors { message }
  }
}
"""
ALL = "{ products { edges { node { id title variants { edges { node { id } } } } } } }"


async def stored(service: Any, shopify: MockShopify, *, lasting: bool = False) -> None:
    """The session of an app that was just installed."""
    now_ms = int(time.time() * 1000)
    session = {"id": f"offline_{SHOP}", "shop": SHOP, "state": "", "isOnline": False}
    if lasting:
        session["accessToken"] = shopify.lasting_token(SHOP)
    else:
        pair = shopify.pair(SHOP)
        session |= {
            "accessToken": pair.access.token,
            "expires": now_ms + 3_600_000,
            "refreshToken": pair.refresh,
            "refreshTokenExpires": now_ms + 90 * 86_400_000,
        }
    url = f"{service.url}/v1/sessions/offline_{SHOP}"
    headers = {"Authorization": f"Bearer {service.key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.put(url, json=session) as answer,
    ):
        assert answer.status == 200, await answer.text()


@pytest_asyncio.fixture
async def kept(session_service: Any, shopify: MockShopify) -> AsyncIterator[AdminClient]:
    """With tokens of the deployment."""
    origins = Origins(shopify.origin)
    async with (
        session_service.client() as client,
        Admin(KeptTokens(client), origins=origins) as admin,
    ):
        yield admin.shop(SHOP)


@pytest_asyncio.fixture
async def shop(shopify: MockShopify) -> AsyncIterator[AdminClient]:
    """With a token of its own."""
    token = FixedToken(shopify.pair(SHOP).access.token)
    async with Admin(token, origins=Origins(shopify.origin)) as admin:
        yield admin.shop(SHOP)


async def test_fifty_callers_whose_token_dies_cost_one_refresh_and_no_error(
    kept: AdminClient, session_service: Any, shopify: MockShopify
) -> None:
    await stored(session_service, shopify)
    await kept.graphql(NAME)
    newest = shopify.shop(SHOP).wallet.newest
    assert newest is not None
    newest.access.revoked = True
    answers = await asyncio.gather(*(kept.graphql(NAME) for _ in range(50)))
    assert {answer.data["shop"]["name"] for answer in answers} == {"greek-olives"}
    assert len(shopify.called("token", SHOP, "refresh")) == 1


async def test_a_token_without_an_end_becomes_one_that_is_taken(
    kept: AdminClient, session_service: Any, shopify: MockShopify
) -> None:
    await stored(session_service, shopify, lasting=True)
    shopify.rules.refuses_non_expiring = True
    assert (await kept.graphql(NAME)).data["shop"]["name"] == "greek-olives"


async def test_an_uninstalled_shop_has_to_authorize_the_app_again(
    kept: AdminClient, session_service: Any, shopify: MockShopify
) -> None:
    await stored(session_service, shopify)
    await kept.graphql(NAME)
    shopify.uninstall(SHOP)
    with pytest.raises(errors.ReauthRequired) as caught:
        await kept.graphql(NAME)
    assert SHOP in (caught.value.authorize_url or "")


async def test_more_queries_than_the_bucket_holds_are_all_answered(
    shop: AdminClient, shopify: MockShopify
) -> None:
    shopify.shop(SHOP).points = Bucket(shopify.clock, maximum=1000, restore_rate=4000)
    dear = f"# cost:400 \n{NAME} # actual:399"
    answers = await asyncio.gather(*(shop.graphql(dear) for _ in range(8)))
    assert len(answers) == 8
    assert len(shopify.called("graphql", SHOP)) > 8
    with pytest.raises(errors.QueryTooExpensive):
        await shop.graphql(f"# cost:1001 \n{NAME}")


async def test_a_mutation_whose_answer_is_lost_is_made_once(
    shop: AdminClient, shopify: MockShopify
) -> None:
    shopify.faults.add(Fault.lost(where="graphql"))
    with pytest.raises(errors.OutcomeUnknown):
        await shop.graphql(CREATE)
    assert len(shopify.shop(SHOP).catalog.products) == 1


async def test_a_mutation_with_a_key_is_repeated_until_it_is_known_to_be_made_once(
    shop: AdminClient, shopify: MockShopify
) -> None:
    shopify.faults.add(Fault.lost(where="graphql", times=2))
    answer = await shop.graphql(REFUND, idempotency_key="r-1")
    assert answer.done()["refundCreate"]["refund"]["id"]
    assert len(shopify.shop(SHOP).catalog.refunds) == 1


async def test_what_the_app_may_not_see_is_told_beside_what_it_may(shop: AdminClient) -> None:
    both = "{ shop { name } orders(first: 1) { nodes { id } } }"
    answer = await shop.graphql(both)
    assert answer.data["shop"]["name"] == "greek-olives"
    assert answer.errors[0]["extensions"]["code"] == "ACCESS_DENIED"


async def test_all_of_a_long_list_is_read_by_both_apis(
    shop: AdminClient, shopify: MockShopify
) -> None:
    shopify.shop(SHOP).catalog.fill(8)
    titles = [f"P{n}" for n in range(8)]
    assert [node["title"] async for node in shop.paginate(LIST, "products")] == titles
    page: RestAnswer | None = await shop.rest(
        "GET", "products", query={"limit": 3, "fields": "title"}
    )
    found = []
    while page is not None:
        found += [product["title"] for product in page.document["products"]]
        page = await page.next()
    assert found == titles


async def test_a_bulk_operation_brings_everything(shop: AdminClient, shopify: MockShopify) -> None:
    shopify.shop(SHOP).catalog.fill(20, variants=2)
    rows = [row async for row in shop.bulk(ALL)]
    assert (len(rows), sum("__parentId" in row for row in rows)) == (60, 40)
    groups = [row async for row in shop.bulk(ALL, grouped=True)]
    assert [len(row["__children"]) for row in groups] == [2] * 20


async def test_a_version_that_has_ended_is_answered_with_a_warning(
    shop: AdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await shop.admin.shop(SHOP, api_version="2025-01").graphql(NAME)
    assert answer.api_version == "2026-01"
    assert "Shopify answers version 2026-01 in place of 2025-01" in caplog.messages


async def test_the_readmes_examples_do_what_they_say(
    shop: AdminClient, shopify: MockShopify
) -> None:
    catalog = shopify.shop(SHOP).catalog
    catalog.fill(3, variants=2)
    for number in catalog.products:
        catalog.products[number]["title"] = f"oil {number}"
    shopify.faults.add(Fault(where="graphql"), Fault.lost(where="graphql"))
    known: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        if "AdminClient" in block:
            exec(compile(block, str(README), "exec"), known)
    assert await known["shout"](shop) == 3
    assert {row["title"] for row in catalog.products.values()} == {
        f"OIL {number}" for number in catalog.products
    }
    rows = await known["export"](shop, None)
    assert [len(row["__children"]) for row in rows] == [2] * 3
