"""Calls of the Admin API: which may be repeated or remembered, and under which name."""

import asyncio
from typing import Any

import pytest

from chassis.kernel import errors
from session_service.core import admin
from testkit.clock import FakeClock

SHOP = "greek-olives.myshopify.com"


def graphql(query: str, **more: Any) -> admin.Call:
    given: dict[str, Any] = {"version": None, "has_key": False, "max_age_s": 60, **more}
    document = {"query": query, **given.pop("document", {})}
    return admin.graphql_call(shop=SHOP, document=document, **given)


def rest(path: str, method: str = "GET", **more: Any) -> admin.Call:
    given: dict[str, Any] = {"query": {}, "body": None, "version": None, "has_key": False,
                             "max_age_s": 60, **more}  # fmt: skip
    return admin.rest_call(shop=SHOP, method=method, path=path, **given)


def test_a_query_may_be_repeated_and_remembered() -> None:
    call = graphql("query Q { shop { name } }")
    assert (call.harmless, call.max_age_s) == (True, 60)


@pytest.mark.parametrize("text", ["mutation { a }", "{ a } mutation M { b }", "half {"])
def test_what_may_change_something_is_neither_repeated_nor_remembered(text: str) -> None:
    call = graphql(text)
    assert (call.harmless, call.max_age_s) == (False, 0)


def test_the_operation_that_is_named_decides() -> None:
    text = "query Q { a } mutation M { b }"
    assert graphql(text, document={"operationName": "Q"}).harmless
    assert not graphql(text, document={"operationName": "M"}).harmless


def test_an_idempotency_key_lets_a_change_be_repeated_but_never_remembered() -> None:
    call = graphql("mutation { a }", has_key=True)
    assert (call.harmless, call.max_age_s) == (True, 0)
    assert rest("products", "POST", has_key=True).harmless
    assert not rest("products", "POST").harmless


def test_only_get_is_remembered() -> None:
    ages = {each: rest("products", each).max_age_s for each in ("GET", "POST", "PUT", "DELETE")}
    assert ages == {"GET": 60, "POST": 0, "PUT": 0, "DELETE": 0}


@pytest.mark.parametrize("path", ["products", "products.json"])
def test_the_ending_of_a_path_is_optional(path: str) -> None:
    assert rest(path).path == "products.json"


@pytest.mark.parametrize(
    "path",
    ["", "..", "../../oauth/access_token", "a/../b", "a//b", "a%2F..", "a?b", "a#b", "a\\b",
     "a b", "@evil", "graphql", "graphql.json", "a/.json"],
)  # fmt: skip
def test_what_is_no_path_of_the_rest_api_is_not_found(path: str) -> None:
    with pytest.raises(errors.NotFound):
        rest(path)


@pytest.mark.parametrize("version", ["2026-10/..", "2026-1", "2026-02", "", "latest", "2026-10\n"])
def test_a_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(errors.Invalid):
        graphql("{ a }", version=version)


def test_a_name_is_of_one_shop_token_version_and_question() -> None:
    calls = [
        graphql("{ a }"),
        graphql("{ b }"),
        graphql("{ a }", version="2026-07"),
        graphql("{ a }", document={"variables": {"n": 1}}),
        rest("a"),
        rest("a", query={"limit": "1"}),
        admin.graphql_call(
            shop="other.myshopify.com", document={"query": "{ a }"}, version=None, has_key=False,
            max_age_s=1,
        ),
    ]  # fmt: skip
    names = [admin.name_of(call, token) for call in calls for token in (1, 2)]
    assert len(set(names)) == len(names)
    assert admin.name_of(graphql("{ a }"), 1) == names[0]


def test_neither_question_nor_answer_is_in_a_repr() -> None:
    told = repr(graphql('{ customer(email: "secret@example.com") }')) + repr(
        admin.Reply(status=200, headers={}, body=b"secret@example.com")
    )
    assert "secret" not in told


class Slow:
    """A Shopify that answers when it is let."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked = 0

    async def ask(self, call: admin.Call) -> admin.Reply:
        self.asked += 1
        await self.may_answer.wait()
        return admin.Reply(status=200, headers={}, body=call.shop.encode())


class Keeper:
    async def token(self, shop: str) -> admin.KeptToken:
        return admin.KeptToken(token=shop, version=1)

    async def rejected(self, shop: str, version: int) -> admin.KeptToken:
        return admin.KeptToken(token=shop, version=version)


async def test_a_slow_shop_leaves_room_for_others_and_all_of_them_for_other_calls() -> None:
    shopify = Slow()
    proxy = admin.AdminProxy(shopify=shopify, keeper=Keeper(), shelves=[], clock=FakeClock())

    def call(shop: str) -> "asyncio.Task[admin.Answer]":
        return asyncio.ensure_future(proxy(admin.Call(shop=shop, method="GET", path="a.json")))

    shops = ["one", "two", "three"]
    calls = [call(shop) for shop in shops for _ in range(admin.MAX_OF_SHOP + 1)]
    calls.append(call("four"))
    done, waiting = await asyncio.wait(calls, timeout=0.1)
    assert len(waiting) == shopify.asked == admin.MAX_CALLS
    faults = [task.exception() for task in done]
    assert [getattr(fault, "code", None) for fault in faults] == ["overloaded"] * 4
    shopify.may_answer.set()
    await asyncio.wait(waiting)
    assert (await proxy(admin.Call(shop="one", method="GET", path="a.json"))).reply.body == b"one"
