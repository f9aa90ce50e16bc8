"""The mock's Admin APIs: tokens, versions, costs, pages, bulk; and its consent page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import orjson
import pytest

from testkit.shopify import signing
from testkit.shopify.admin import NON_EXPIRING, UNKNOWN_TOKEN
from testkit.shopify.faults import Fault
from testkit.shopify.rules import DAY_S
from testkit.shopify.server import MockShopify
from testkit.signals import eventually

SHOP = "first.myshopify.com"


@dataclass(frozen=True)
class Got:
    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def cost(self) -> dict[str, Any]:
        return dict(self.body["extensions"]["cost"])

    @property
    def code(self) -> str:
        return str(self.body["errors"][0]["extensions"]["code"])


@dataclass
class Client:
    shopify: MockShopify
    token: str
    version: str = "2026-10"

    async def ask(self, method: str, path: str, **how: Any) -> Got:
        url = self.shopify.origin.replace("{shop}", SHOP) + path
        headers = {"X-Shopify-Access-Token": self.token} | how.pop("headers", {})
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, url, headers=headers, allow_redirects=False, **how) as got,
        ):
            text = await got.text()
            is_json = got.content_type == "application/json"
            return Got(got.status, got.headers.copy(), orjson.loads(text) if is_json else text)

    async def graphql(self, query: str, /, *, version: str = "2026-10", **variables: Any) -> Got:
        asked = {"query": query, "variables": variables}
        return await self.ask("POST", f"/admin/api/{version}/graphql.json", json=asked)

    async def rest(self, method: str, path: str, **how: Any) -> Got:
        return await self.ask(method, f"/admin/api/2026-10/{path}", **how)


@pytest.fixture
def client(shopify: MockShopify) -> Client:
    return Client(shopify, shopify.pair(SHOP).access.token)


async def test_graphql_tells_what_it_cost(client: Client) -> None:
    client.shopify.shop(SHOP).points.restore_rate = 1e-6
    got = await client.graphql("{ shop { myshopifyDomain } } # cost:100 # actual:40")
    assert got.body["data"] == {"shop": {"myshopifyDomain": SHOP}}
    assert got.cost == {
        "requestedQueryCost": 100,
        "actualQueryCost": 40,
        "throttleStatus": {
            "maximumAvailable": 2000.0,
            "currentlyAvailable": 1960,
            "restoreRate": 1e-6,
        },
    }
    assert got.headers["X-Shopify-API-Version"] == "2026-10"
    assert got.headers["X-Request-Id"]


async def test_an_empty_bucket_is_200_and_does_nothing_until_it_has_filled(
    client: Client, shopify: MockShopify
) -> None:
    points = shopify.shop(SHOP).points
    points.restore_rate = 10
    points.empty()
    create = 'mutation { productCreate(product: {title: "A"}) { product { id } } } # cost:300'
    got = await client.graphql(create)
    assert (got.status, got.code) == (200, "THROTTLED")
    assert got.cost["actualQueryCost"] is None
    assert "data" not in got.body
    shopify.clock.advance(30)
    got = await client.graphql(create)
    assert got.body["data"]["productCreate"]["product"]["id"]
    assert len(shopify.shop(SHOP).catalog.products) == 1


async def test_a_query_that_is_too_dear_is_refused_whatever_is_left(client: Client) -> None:
    got = await client.graphql("{ shop { name } } # cost:1001")
    assert (got.status, got.code) == (200, "MAX_COST_EXCEEDED")


async def test_a_cost_that_is_not_stated_grows_with_the_page(client: Client) -> None:
    query = "query($n: Int) { products(first: $n) { nodes { id } } }"
    assert (await client.graphql(query, n=10)).cost["requestedQueryCost"] == 20
    assert (await client.graphql("{ shop { name } }")).cost["requestedQueryCost"] == 1


async def test_a_token_that_is_dead_or_of_another_shop_is_401(
    client: Client, shopify: MockShopify
) -> None:
    other = Client(shopify, shopify.pair("two.myshopify.com").access.token)
    for each in (other, Client(shopify, "shpat_none")):
        got = await each.graphql("{ shop { name } }")
        assert (got.status, got.body) == (401, {"errors": UNKNOWN_TOKEN})
        assert (await each.rest("GET", "products.json")).status == 401
    shopify.clock.advance(shopify.rules.access_ttl_s)
    assert (await client.graphql("{ shop { name } }")).status == 401


async def test_a_use_of_the_new_token_ends_the_old_refresh_token(
    client: Client, shopify: MockShopify
) -> None:
    wallet = shopify.shop(SHOP).wallet
    assert wallet.newest is not None
    assert not wallet.newest.in_use
    await client.graphql("{ shop { name } }")
    assert wallet.newest.in_use


async def test_a_token_that_never_expires_may_be_refused(shopify: MockShopify) -> None:
    client = Client(shopify, shopify.lasting_token(SHOP))
    assert (await client.graphql("{ shop { name } }")).status == 200
    shopify.rules.refuses_non_expiring = True
    got = await client.graphql("{ shop { name } }")
    assert (got.status, got.body) == (403, {"errors": NON_EXPIRING})


async def test_what_one_field_may_not_see_comes_as_data_and_error(client: Client) -> None:
    got = await client.graphql("{ shop { name } orders(first: 1) { nodes { id } } }")
    assert got.body["data"] == {"shop": {"name": "first"}, "orders": None}
    assert got.code == "ACCESS_DENIED"
    assert got.body["errors"][0]["path"] == ["orders"]


async def test_old_versions_fall_forward_and_unknown_ones_do_not_exist(client: Client) -> None:
    got = await client.graphql("{ shop { name } }", version="2024-01")
    assert (got.status, got.headers["X-Shopify-API-Version"]) == (200, "2026-01")
    assert (await client.graphql("{ shop { name } }", version="2031-01")).status == 404
    assert (await client.graphql("{ shop { name } }", version="latest")).status == 404


async def test_a_deprecated_field_is_told_in_a_header(client: Client) -> None:
    name = "X-Shopify-API-Deprecated-Reason"
    assert name in (await client.graphql("{ products(first: 1) { nodes { bodyHtml } } }")).headers
    assert name not in (await client.graphql("{ products(first: 1) { nodes { id } } }")).headers


async def test_what_is_no_query_is_told_so(client: Client) -> None:
    assert "Syntax Error" in (await client.graphql("{ shop {")).body["errors"][0]["message"]
    assert "nothing" in (await client.graphql("{ nothing }")).body["errors"][0]["message"]
    path = "/admin/api/2026-10/graphql.json"
    assert (await client.ask("POST", path, data=b"\xff{")).status == 400
    assert (await client.ask("POST", path, json={"variables": {}})).status == 400


async def test_products_come_by_the_page(client: Client, shopify: MockShopify) -> None:
    shopify.shop(SHOP).catalog.fill(5)
    query = """query($after: String) {
      products(first: 2, after: $after) { nodes { title } pageInfo { hasNextPage endCursor } } }"""
    titles: list[str] = []
    after = None
    while True:
        page = (await client.graphql(query, after=after)).body["data"]["products"]
        titles += [each["title"] for each in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert titles == ["P0", "P1", "P2", "P3", "P4"]


async def test_user_errors_stand_in_the_data(client: Client) -> None:
    query = "mutation { productCreate(product: {}) { userErrors { field message } } }"
    told = (await client.graphql(query)).body["data"]["productCreate"]["userErrors"]
    assert told == [{"field": ["title"], "message": "Title can't be blank"}]


async def test_a_refund_is_made_once_per_key_and_needs_one(
    client: Client, shopify: MockShopify
) -> None:
    query = """mutation($key: String!, $order: ID!) {
      refundCreate(input: {orderId: $order}) @idempotent(key: $key) { refund { id } } }"""
    first = await client.graphql(query, key="k1", order="1")
    again = await client.graphql(query, key="k1", order="1")
    assert first.body["data"] == again.body["data"]
    assert len(shopify.shop(SHOP).catalog.refunds) == 1
    assert (await client.graphql(query, key="k1", order="2")).code.endswith("MISMATCH")
    bare = 'mutation { refundCreate(input: {orderId: "1"}) { refund { id } } }'
    assert (await client.graphql(bare)).code == "BAD_REQUEST"
    assert (await client.graphql(bare, version="2026-01")).body["data"]["refundCreate"]["refund"]


async def test_a_lost_answer_of_a_mutation_was_done(client: Client, shopify: MockShopify) -> None:
    shopify.faults.add(Fault.lost(where="graphql", detail="productCreate"))
    query = 'mutation { productCreate(product: {title: "A"}) { product { id } } }'
    with pytest.raises(aiohttp.ClientError):
        await client.graphql(query)
    assert len(shopify.shop(SHOP).catalog.products) == 1
    assert [call.status for call in shopify.called("graphql", SHOP)] == [0]


async def test_rest_links_its_pages(client: Client, shopify: MockShopify) -> None:
    shopify.shop(SHOP).catalog.fill(5)
    first = await client.rest("GET", "products.json", params={"limit": "2", "fields": "title"})
    assert first.body == {"products": [{"title": "P0"}, {"title": "P1"}]}
    assert first.headers["X-Shopify-Shop-Api-Call-Limit"] == "1/40"
    link = first.headers["Link"]
    assert link.startswith(f"<https://{SHOP}/admin/api/2026-10/products.json?limit=2&page_info=")
    assert 'rel="next"' in link
    assert "previous" not in link
    follow = dict(parse_qsl(urlsplit(link.partition(">")[0]).query))
    second = await client.rest("GET", "products.json", params=follow)
    assert [each["title"] for each in second.body["products"]] == ["P2", "P3"]
    assert second.headers["Link"].count("rel=") == 2
    refused = await client.rest("GET", "products.json", params=follow | {"title": "P4"})
    assert refused.status == 400


async def test_rest_writes_what_it_then_reads(client: Client) -> None:
    made = await client.rest("POST", "products.json", json={"product": {"title": "A"}})
    assert made.status == 201
    one = f"products/{made.body['product']['id']}.json"
    await client.rest("PUT", one, json={"product": {"title": "B"}})
    assert (await client.rest("GET", one)).body["product"]["title"] == "B"
    assert (await client.rest("GET", "products/count.json")).body == {"count": 1}
    assert (await client.rest("DELETE", one)).status == 200
    assert (await client.rest("GET", one)).status == 404
    assert (await client.rest("POST", "products.json", json={"product": {}})).status == 422


async def test_rest_is_429_when_the_bucket_is_full(client: Client, shopify: MockShopify) -> None:
    calls = shopify.shop(SHOP).calls
    calls.restore_rate = 0.01
    calls.empty()
    got = await client.rest("GET", "shop.json")
    assert (got.status, got.headers["Retry-After"]) == (429, "2.0")
    shopify.clock.advance(100)
    assert (await client.rest("GET", "shop.json")).status == 200


async def test_rest_asks_for_scopes(client: Client, shopify: MockShopify) -> None:
    shopify.install(SHOP, scopes="read_products")
    client.token = shopify.pair(SHOP).access.token
    got = await client.rest("POST", "products.json", json={"product": {"title": "A"}})
    assert (got.status, "write_products scope" in got.body["errors"]) == (403, True)
    told = await client.ask("GET", "/admin/oauth/access_scopes.json")
    assert told.body == {"access_scopes": [{"handle": "read_products"}]}


BULK = "{ products { edges { node { id title variants { edges { node { id } } } } } } }"
RUN = """mutation($query: String!, $grouped: Boolean!) {
  bulkOperationRunQuery(query: $query, groupObjects: $grouped) {
    bulkOperation { id status } userErrors { message code } } }"""
POLL = """query($id: ID!) { node(id: $id) { ... on BulkOperation {
  status errorCode objectCount rootObjectCount url partialDataUrl } } }"""


async def run_bulk(client: Client, *, grouped: bool = False, query: str = BULK) -> dict[str, Any]:
    told = (await client.graphql(RUN, query=query, grouped=grouped)).body["data"]
    return dict(told["bulkOperationRunQuery"])


async def poll(client: Client, started: dict[str, Any]) -> dict[str, Any]:
    got = await client.graphql(POLL, id=started["bulkOperation"]["id"])
    return dict(got.body["data"]["node"])


async def lines(url: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(url) as got:
        assert got.status == 200, got.status
        return [orjson.loads(line) for line in (await got.read()).splitlines()]


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_bulk_operation_runs_and_leaves_a_file(
    client: Client, shopify: MockShopify, grouped: bool
) -> None:
    shopify.shop(SHOP).catalog.fill(3, variants=2)
    shopify.rules.bulk_takes_s = 100
    started = await run_bulk(client, grouped=grouped)
    assert started["bulkOperation"]["status"] == "CREATED"
    shopify.clock.advance(50)
    assert (await poll(client, started))["status"] == "RUNNING"
    shopify.clock.advance(50)
    ended = await poll(client, started)
    assert (ended["status"], ended["objectCount"], ended["rootObjectCount"]) == (
        "COMPLETED", "9", "3",
    )  # fmt: skip
    told = await lines(ended["url"])
    parents = [n for n, line in enumerate(told) if "__parentId" not in line]
    assert parents == ([0, 3, 6] if grouped else [0, 1, 2])
    assert {line["__parentId"] for line in told if "__parentId" in line} == {
        told[n]["id"] for n in parents
    }
    shopify.clock.advance(8 * DAY_S)
    async with aiohttp.ClientSession() as http, http.get(ended["url"]) as got:
        assert got.status == 403


async def test_a_bulk_operation_ends_by_itself_in_real_time(client: Client) -> None:
    started = await run_bulk(client)

    async def completed() -> bool:
        return (await poll(client, started))["status"] == "COMPLETED"

    await eventually(completed)


async def test_a_bulk_operation_may_fail_and_leave_half(
    client: Client, shopify: MockShopify
) -> None:
    shop = shopify.shop(SHOP)
    shop.catalog.fill(4)
    shop.bulk_error = "INTERNAL_SERVER_ERROR"
    started = await run_bulk(client)
    shopify.clock.advance(1)
    ended = await poll(client, started)
    assert (ended["status"], ended["errorCode"]) == ("FAILED", "INTERNAL_SERVER_ERROR")
    assert ended["url"] is None
    assert len(await lines(ended["partialDataUrl"])) == 4


async def test_only_so_many_bulk_operations_run_at_once(
    client: Client, shopify: MockShopify
) -> None:
    shopify.rules.bulk_queries_at_once, shopify.rules.bulk_takes_s = 1, 100
    started = await run_bulk(client)
    refused = await run_bulk(client)
    assert (refused["bulkOperation"], refused["userErrors"][0]["code"]) == (
        None, "OPERATION_IN_PROGRESS",
    )  # fmt: skip
    cancel = "mutation($id: ID!) { bulkOperationCancel(id: $id) { bulkOperation { status } } }"
    got = await client.graphql(cancel, id=started["bulkOperation"]["id"])
    assert got.body["data"]["bulkOperationCancel"]["bulkOperation"]["status"] == "CANCELING"
    shopify.clock.advance(30)
    assert (await poll(client, started))["status"] == "CANCELED"
    assert (await run_bulk(client))["userErrors"] == []


async def test_a_bulk_operation_of_no_query_is_a_user_error(client: Client) -> None:
    assert (await run_bulk(client, query="{ nothing }"))["userErrors"][0]["code"] == "INVALID"


async def authorized(client: Client, **changes: str) -> Got:
    asked = {
        "client_id": client.shopify.api_key,
        "scope": "read_orders,write_products",
        "redirect_uri": "https://app.example.com/auth/callback",
        "state": "s1",
    }
    return await client.ask("GET", "/admin/oauth/authorize", params=asked | changes)


@pytest.mark.parametrize("pads", [False, True])
async def test_consent_sends_the_browser_back_with_a_signed_query(
    client: Client, shopify: MockShopify, pads: bool
) -> None:
    shopify.rules.pads_host = pads
    got = await authorized(client)
    assert got.status == 302
    at, _, query = got.headers["Location"].partition("?")
    assert at == "https://app.example.com/auth/callback"
    params = parse_qsl(query)
    told = dict(params)
    assert told.keys() == {"code", "hmac", "host", "shop", "state", "timestamp"}
    assert told["host"].endswith("=") is pads
    assert told["hmac"] == signing.query_hmac(params, shopify.api_secret)
    assert shopify.shop(SHOP).codes[told["code"]].user is None
    assert shopify.shop(SHOP).scopes == "read_orders,write_products"


async def test_consent_for_a_user_brings_a_code_of_that_user(
    client: Client, shopify: MockShopify
) -> None:
    got = await authorized(client, **{"grant_options[]": "per-user"})
    code = dict(parse_qsl(urlsplit(got.headers["Location"]).query))["code"]
    assert shopify.shop(SHOP).codes[code].user is not None


async def test_consent_goes_nowhere_else(client: Client, shopify: MockShopify) -> None:
    shopify.redirects = ["https://app.example.com/auth/callback"]
    assert (await authorized(client)).status == 302
    assert (await authorized(client, redirect_uri="https://evil.example.com")).status == 400
    assert (await authorized(client, client_id="another")).status == 400


async def test_both_forms_of_the_hmac_differ_where_they_should() -> None:
    plain = [("shop", SHOP), ("timestamp", "1")]
    assert signing.query_hmac(plain, "k") == signing.legacy_query_hmac(plain, "k")
    odd = [("a", "x y&z"), ("ids[]", "1"), ("ids[]", "2")]
    assert signing.query_hmac(odd, "k") != signing.legacy_query_hmac(odd, "k")


async def test_a_shop_can_be_told_by_its_host(client: Client, shopify: MockShopify) -> None:
    headers = {"Host": SHOP, "X-Shopify-Access-Token": client.token}
    async with (
        aiohttp.ClientSession(shopify.url) as http,
        http.get("/admin/api/2026-10/shop.json", headers=headers) as got,
    ):
        assert (await got.json())["shop"]["myshopify_domain"] == SHOP
