"""Lists and bulk operations before a server that answers what it is told to."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from mainstay.shopify import bulk, errors, retries
from mainstay.shopify.admin import API_VERSION, Admin, AdminClient
from mainstay.shopify.shops import Origins
from mainstay.shopify.tokens import FixedToken
from testkit.scripts import Answer, Script, told

SHOP = "flowers.myshopify.com"
LIST = "query ($cursor: String) { products(first: 2, after: $cursor) { nodes { id } } }"
ROWS = [
    {"id": "p1"},
    {"id": "v1", "__parentId": "p1"},
    {"id": "m1", "__parentId": "v1"},
    {"id": "v2", "__parentId": "p1"},
    {"id": "p2"},
]


@pytest_asyncio.fixture
async def script() -> AsyncIterator[Script]:
    async with Script() as made:
        yield made


@pytest_asyncio.fixture
async def shop(script: Script, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AdminClient]:
    monkeypatch.setattr(bulk, "FIRST_POLL_S", 0.01)
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.01)
    origins = Origins(f"{script.url}/{{shop}}")
    async with Admin(FixedToken("shpat_x"), origins=origins, within_s=5.0) as admin:
        yield admin.shop(SHOP)


def page(*ids: str, end: str | None) -> Answer:
    info = {"hasNextPage": end is not None, "endCursor": end or "last"}
    nodes = [{"id": identity} for identity in ids]
    return told({"data": {"products": {"nodes": nodes, "pageInfo": info}}})


def products(*ids: int, link: str = "") -> Answer:
    return told({"products": list(ids)}, Link=link)


async def test_a_list_is_read_page_by_page(script: Script, shop: AdminClient) -> None:
    script.says(page("1", "2", end="c1"), page("3", end=None))
    found = [node["id"] async for node in shop.paginate(LIST, "products", {"a": 1})]
    assert found == ["1", "2", "3"]
    assert [asked.document["variables"] for asked in script.asked] == [
        {"a": 1, "cursor": None},
        {"a": 1, "cursor": "c1"},
    ]


async def test_edges_are_read_as_well(script: Script, shop: AdminClient) -> None:
    edges = [{"node": {"id": "1"}}]
    found = {"products": {"edges": edges, "pageInfo": {"hasNextPage": False}}}
    script.says(told({"data": {"shop": found}}))
    assert [node["id"] async for node in shop.paginate(LIST, "shop.products")] == ["1"]


async def test_a_list_that_does_not_go_on_ends(script: Script, shop: AdminClient) -> None:
    script.says(page("1", end="c1"))
    with pytest.raises(ValueError, match="gives its \\$cursor to nothing"):
        [node async for node in shop.paginate(LIST, "products")]
    script.says(told({"data": {"products": {"nodes": []}}}))
    with pytest.raises(ValueError, match="pageInfo"):
        [node async for node in shop.paginate(LIST, "products")]
    assert len(script.asked) == 3


async def test_pages_of_rest_are_those_of_the_shop(script: Script, shop: AdminClient) -> None:
    address = f"https://{SHOP}/admin/api/{API_VERSION}/products.json?limit=2&page_info="
    script.says(
        products(1, 2, link=f'<{address}abc>; rel="next"'),
        products(3, link=f'<{address}xyz>; rel="previous"'),
    )
    first = await shop.rest("GET", "products", query={"limit": 2, "vendor": "a"})
    second = await first.next()
    assert second is not None
    assert (first.document, second.document) == ({"products": [1, 2]}, {"products": [3]})
    assert (await second.next(), second.pages) == (None, {"previous": "xyz"})
    assert [dict(asked.query) for asked in script.asked] == [
        {"limit": "2", "vendor": "a"},
        {"limit": "2", "page_info": "abc"},
    ]


async def test_a_page_elsewhere_is_not_asked_for(script: Script, shop: AdminClient) -> None:
    address = f"https://evil.example.com/admin/api/{API_VERSION}/products.json?page_info=abc"
    script.says(products(1, link=f'<{address}>; rel="next"'))
    assert await (await shop.rest("GET", "products")).next() is None
    assert len(script.asked) == 1


async def test_what_is_deleted_twice_is_deleted(script: Script, shop: AdminClient) -> None:
    script.says(told({}, status=502), told({}))
    assert (await shop.rest("DELETE", "products/1")).status == 200
    assert [asked.method for asked in script.asked] == ["DELETE", "DELETE"]


async def test_an_answer_without_a_body_is_one(script: Script, shop: AdminClient) -> None:
    async def nothing(_request: web.Request) -> web.Response:
        return web.Response(status=204)

    script.says(nothing)
    answer = await shop.rest("DELETE", "products/1")
    assert (answer.status, answer.document) == (204, None)


async def test_an_answer_that_is_no_json_is_shopifys_fault(
    script: Script, shop: AdminClient
) -> None:
    async def words(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    script.says(words, told({"products": []}))
    assert (await shop.rest("GET", "products")).document == {"products": []}
    script.says(words)
    with pytest.raises(errors.OutcomeUnknown):
        await shop.rest("POST", "products", body={})


async def test_a_query_is_remembered_for_who_says_so(script: Script, shop: AdminClient) -> None:
    script.says(told({"data": 1}), told({"data": 2}), told({"data": 3}), told({"data": 4}))
    first = await shop.graphql("{ a }", max_age_s=60)
    again = await shop.graphql("{ a }", max_age_s=60)
    assert (first.data, first.cached, again.data, again.cached) == (1, False, 1, True)
    assert (await shop.graphql("{ a }")).data == 2
    assert (await shop.graphql("{ a }", {"b": 1}, max_age_s=60)).data == 3
    other = shop.admin.shop("other.myshopify.com")
    assert (await other.graphql("{ a }", max_age_s=60)).data == 4


async def test_mutations_and_errors_are_not_remembered(script: Script, shop: AdminClient) -> None:
    script.says(told({"data": 1}))
    for _ in range(2):
        assert not (await shop.graphql("mutation { a }", max_age_s=60)).cached
    script.says(told({"data": 1, "errors": [{"message": "x"}]}))
    for _ in range(2):
        assert not (await shop.graphql("{ a }", max_age_s=60)).cached
    script.says(told({"product": 1}))
    for _ in range(2):
        assert not (await shop.rest("PUT", "products/1", body={}, max_age_s=60)).cached
    assert len(script.asked) == 6


def operation(state: str, **more: Any) -> Answer:
    return told({"data": {"node": {"id": "op", "status": state, "objectCount": "5", **more}}})


def started(*problems: str) -> Answer:
    said = {
        "bulkOperation": {"id": "op"} if not problems else None,
        "userErrors": [{"field": None, "message": problem} for problem in problems],
    }
    return told({"data": {"bulkOperationRunQuery": said}})


def lines(rows: list[dict[str, Any]], *, upto: int | None = None) -> Answer:
    """A file; with `upto` the connection breaks after so many bytes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert "X-Shopify-Access-Token" not in request.headers
        body = "\n".join(json.dumps(row) for row in rows).encode() + b"\n"
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[:upto])
        if upto is not None:
            assert request.transport is not None
            request.transport.close()
        return response

    return answer


async def test_a_bulk_operation_is_waited_for_and_read(script: Script, shop: AdminClient) -> None:
    url = f"{script.url}/{SHOP}/file"
    script.says(
        started(), operation("RUNNING"), told({}, status=503), told({}, status=503),
        told({}, status=503), told({}, status=503), told({}, status=503),
        operation("COMPLETED", url=url), lines(ROWS),
    )  # fmt: skip
    assert [row async for row in shop.bulk("{ products { id } }")] == ROWS
    assert script.asked[0].document["variables"] == {
        "query": "{ products { id } }",
        "grouped": False,
    }


async def test_rows_come_in_groups_when_they_are_wanted_so(
    script: Script, shop: AdminClient
) -> None:
    url = f"{script.url}/{SHOP}/file"
    script.says(started(), operation("COMPLETED", url=url), lines(ROWS))
    first, second = [row async for row in shop.bulk("{ a }", grouped=True)]
    assert [child["id"] for child in first["__children"]] == ["v1", "v2"]
    assert [child["id"] for child in first["__children"][0]["__children"]] == ["m1"]
    assert second == {"id": "p2"}
    assert script.asked[0].document["variables"]["grouped"] is True


async def test_a_file_that_breaks_off_is_read_on_and_no_row_told_twice(
    script: Script, shop: AdminClient
) -> None:
    url = f"{script.url}/{SHOP}/file"
    script.says(
        operation("COMPLETED", url=url),
        lines(ROWS, upto=40), told({}, status=503), lines(ROWS, upto=90), lines(ROWS),
    )  # fmt: skip
    assert [row async for row in shop.bulk_rows("op")] == ROWS


async def test_an_operation_without_rows_has_no_file(script: Script, shop: AdminClient) -> None:
    script.says(operation("COMPLETED"))
    assert [row async for row in shop.bulk_rows("op")] == []


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "EXPIRED"])
async def test_an_operation_that_fails_says_why(
    script: Script, shop: AdminClient, state: str
) -> None:
    script.says(operation(state, errorCode="TIMEOUT", partialDataUrl="https://x/partial"))
    with pytest.raises(errors.BulkFailed) as caught:
        [row async for row in shop.bulk_rows("op")]
    failed = caught.value
    assert (failed.state, failed.code, failed.partial_url) == (
        state,
        "TIMEOUT",
        "https://x/partial",
    )


async def test_one_operation_too_many_is_a_user_error(script: Script, shop: AdminClient) -> None:
    script.says(started("A bulk query operation for this app and shop is already in progress"))
    with pytest.raises(errors.UserErrors, match="already in progress"):
        await shop.bulk_start("{ a }")


async def test_a_start_whose_answer_is_lost_is_not_repeated(
    script: Script, shop: AdminClient
) -> None:
    script.says(told({}, status=502))
    with pytest.raises(errors.OutcomeUnknown):
        await shop.bulk_start("{ a }")
    assert len(script.asked) == 1


async def test_a_file_at_another_address_must_be_safe(script: Script, shop: AdminClient) -> None:
    script.says(operation("COMPLETED", url="http://evil.example.com/file"))
    with pytest.raises(errors.Refused):
        [row async for row in shop.bulk_rows("op")]
    script.says(operation("COMPLETED", url=f"{script.url}/{SHOP}/file"), told({}, status=403))
    with pytest.raises(errors.Refused):
        [row async for row in shop.bulk_rows("op")]


async def test_an_operation_that_runs_on_can_be_asked_for_again(
    script: Script, shop: AdminClient
) -> None:
    script.says(operation("RUNNING"))
    with pytest.raises(errors.DeadlineExceeded) as caught:
        [row async for row in shop.bulk_rows("op", within_s=0.2)]
    assert caught.value.retryable
    script.says(told({"data": {"node": None}}))
    with pytest.raises(errors.Refused):
        [row async for row in shop.bulk_rows("gone")]


async def test_who_has_read_enough_leaves_no_connection(script: Script, shop: AdminClient) -> None:
    url = f"{script.url}/{SHOP}/file"
    script.says(operation("COMPLETED", url=url), lines(ROWS * 10_000))
    async with aclosing(shop.bulk_rows("op")) as rows:
        async for row in rows:
            assert row == ROWS[0]
            break
    connector = shop.exchange.http.connector
    assert isinstance(connector, aiohttp.TCPConnector)
    assert not connector._acquired
