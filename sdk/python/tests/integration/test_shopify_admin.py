"""The Admin client before a server that answers what it is told to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from mainstay.shopify import errors, retries
from mainstay.shopify.admin import API_VERSION, Admin, AdminClient
from mainstay.shopify.shops import Origins
from mainstay.shopify.tokens import FixedToken, Token
from testkit.scripts import Answer, Script, reset, silence, told

SHOP = "flowers.myshopify.com"
QUERY = "query Name { shop { name } }"
MUTATION = "mutation Tag($idempotencyKey: String) { tagsAdd { userErrors { message } } }"
DATA = {"data": {"shop": {"name": "Flowers"}}}


class CountedTokens:
    """Renewed when they are refused, for ever."""

    def __init__(self) -> None:
        self.version = 1
        self.renewals = 0

    async def token(self, shop: str) -> Token:
        return Token(f"shpat_{shop}_{self.version}", self.version)

    async def rejected(self, shop: str, token: Token) -> Token:
        assert token.version == self.version
        self.version += 1
        self.renewals += 1
        return await self.token(shop)


async def page(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=520, text="<html>shpat_x", content_type="text/html")


def throttled(requested: float, available: float, *, maximum: float = 1000) -> Answer:
    status = {"maximumAvailable": maximum, "currentlyAvailable": available, "restoreRate": 1000}
    cost = {"requestedQueryCost": requested, "actualQueryCost": None, "throttleStatus": status}
    said = [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]
    return told({"errors": said, "extensions": {"cost": cost}})


def failed(code: str, data: Any = None) -> Answer:
    return told({"data": data, "errors": [{"message": "no", "extensions": {"code": code}}]})


@pytest_asyncio.fixture
async def script() -> AsyncIterator[Script]:
    async with Script() as made:
        yield made


@pytest.fixture
def tokens() -> CountedTokens:
    return CountedTokens()


@pytest_asyncio.fixture
async def admin(
    script: Script, tokens: CountedTokens, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Admin]:
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.01)
    origins = Origins(f"{script.url}/{{shop}}")
    async with Admin(tokens, origins=origins, within_s=5.0) as made:
        yield made


@pytest.fixture
def shop(admin: Admin) -> AdminClient:
    return admin.shop(SHOP)


async def test_a_query_is_asked_as_shopify_wants_it(script: Script, shop: AdminClient) -> None:
    script.says(told(DATA, X_Shopify_API_Version=API_VERSION, X_Request_Id="r-1"))
    answer = await shop.graphql(QUERY, {"a": 1}, operation_name="Name")
    assert (answer.data, answer.errors) == (DATA["data"], ())
    assert (answer.api_version, answer.request_id) == (API_VERSION, "r-1")
    (asked,) = script.asked
    assert (asked.method, asked.path) == (
        "POST",
        f"/{SHOP}/admin/api/{API_VERSION}/graphql.json",
    )
    assert asked.headers["X-Shopify-Access-Token"] == f"shpat_{SHOP}_1"
    assert asked.document == {"query": QUERY, "variables": {"a": 1}, "operationName": "Name"}


async def test_a_refused_token_is_renewed_and_the_call_made_once_more(
    script: Script, shop: AdminClient, tokens: CountedTokens
) -> None:
    script.says(told({"errors": "[API] Invalid API key"}, status=401), told(DATA))
    assert (await shop.graphql(MUTATION)).data == DATA["data"]
    assert [asked.headers["X-Shopify-Access-Token"][-1] for asked in script.asked] == ["1", "2"]
    assert tokens.renewals == 1


async def test_a_second_refusal_is_an_error_after_two_calls_and_one_renewal(
    script: Script, shop: AdminClient, tokens: CountedTokens
) -> None:
    script.says(told({"errors": "[API] Invalid API key"}, status=401))
    with pytest.raises(errors.TokenRefused) as caught:
        await shop.graphql(QUERY)
    assert (caught.value.status, len(script.asked), tokens.renewals) == (401, 2, 1)


async def test_a_token_without_an_end_is_exchanged_where_shopify_takes_none(
    script: Script, shop: AdminClient, tokens: CountedTokens
) -> None:
    said = "Non-expiring access tokens are no longer accepted for the Admin API."
    script.says(told({"errors": said}, status=403), told(DATA))
    await shop.graphql(QUERY)
    assert tokens.renewals == 1


@pytest.mark.parametrize("query", [QUERY, MUTATION])
async def test_who_is_throttled_waits_for_the_bucket_a_mutation_too(
    script: Script, shop: AdminClient, query: str
) -> None:
    # More often than a Shopify that breaks is asked.
    script.says(throttled(500, 300), *[throttled(500, 490)] * 5, told(DATA))
    began = asyncio.get_running_loop().time()
    await shop.graphql(query)
    assert 0.7 <= asyncio.get_running_loop().time() - began < 2.0
    assert len(script.asked) == 7


async def test_who_would_be_throttled_for_longer_than_there_is_time_is_told_at_once(
    script: Script, shop: AdminClient
) -> None:
    script.says(throttled(9_000, 0, maximum=10_000))
    with pytest.raises(errors.Throttled) as caught:
        await shop.graphql(QUERY)
    assert 9 <= (caught.value.retry_after_s or 0) <= 11.25
    assert (caught.value.cost is not None and caught.value.cost.requested) == 9_000
    assert len(script.asked) == 1


async def test_a_query_that_no_bucket_holds_is_not_repeated(
    script: Script, shop: AdminClient
) -> None:
    script.says(throttled(2_000, 900))
    with pytest.raises(errors.QueryTooExpensive):
        await shop.graphql(QUERY)
    script.says(failed("MAX_COST_EXCEEDED"))
    with pytest.raises(errors.QueryTooExpensive):
        await shop.graphql(QUERY)
    assert (await shop.graphql_answer(QUERY)).document["errors"][0]["message"] == "no"
    assert len(script.asked) == 3


async def test_retry_after_is_in_seconds_and_may_be_a_fraction(
    script: Script, shop: AdminClient
) -> None:
    script.says(told({"errors": "slow down"}, status=429, Retry_After="0.3"), told({"product": 1}))
    began = asyncio.get_running_loop().time()
    answer = await shop.rest("POST", "products", body={})
    assert 0.3 <= asyncio.get_running_loop().time() - began < 1.0
    assert answer.document == {"product": 1}


@pytest.mark.parametrize("broken", [told({}, status=502), told({}, status=504), page, reset])
async def test_a_query_is_repeated_when_shopify_breaks(
    script: Script, shop: AdminClient, broken: Answer
) -> None:
    script.says(broken, broken, told(DATA))
    assert (await shop.graphql(QUERY)).data == DATA["data"]
    assert len(script.asked) == 3


@pytest.mark.parametrize("broken", [told({}, status=502), told({}, status=504), page, reset])
async def test_a_mutation_whose_outcome_is_unknown_is_not_repeated(
    script: Script, shop: AdminClient, broken: Answer
) -> None:
    script.says(broken)
    with pytest.raises(errors.OutcomeUnknown):
        await shop.graphql(MUTATION)
    with pytest.raises(errors.OutcomeUnknown):
        await shop.rest("POST", "products", body={})
    assert len(script.asked) == 2


async def test_a_mutation_with_an_idempotency_key_is_repeated_with_that_key(
    script: Script, shop: AdminClient
) -> None:
    script.says(told({}, status=502), reset, told(DATA))
    await shop.graphql(MUTATION, idempotency_key="k-1")
    assert [asked.document["variables"] for asked in script.asked] == [
        {"idempotencyKey": "k-1"}
    ] * 3


async def test_an_answer_that_does_not_come_in_time_is_told_for_what_it_is(
    script: Script, shop: AdminClient
) -> None:
    script.says(silence)
    with pytest.raises(errors.OutcomeUnknown):
        await shop.graphql(MUTATION, within_s=0.2)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await shop.graphql(QUERY, within_s=0.2)
    assert caught.value.retryable
    assert len(script.asked) == 2


async def test_a_query_that_hangs_is_tried_again_within_its_time(script: Script) -> None:
    script.says(silence, told(DATA))
    origins = Origins(f"{script.url}/{{shop}}")
    async with Admin(FixedToken("shpat_x"), origins=origins, try_s=0.2) as admin:
        assert (await admin.shop(SHOP).graphql(QUERY)).data == DATA["data"]


async def test_what_was_not_sent_is_sent_again_a_mutation_too(unused_origin: str) -> None:
    origins = Origins(unused_origin)
    async with Admin(FixedToken("shpat_x"), origins=origins, attempts=2) as admin:
        with pytest.raises(errors.NetworkError) as caught:
            await admin.shop(SHOP).graphql(MUTATION)
    assert caught.value.retryable


@pytest.fixture
def unused_origin() -> str:
    from localstack.servers import ports

    return f"http://127.0.0.1:{ports.free_port()}/{{shop}}"


async def test_partial_data_comes_with_its_errors(script: Script, shop: AdminClient) -> None:
    script.says(failed("ACCESS_DENIED", data={"shop": None}))
    answer = await shop.graphql(QUERY)
    assert (answer.data, answer.errors[0]["message"]) == ({"shop": None}, "no")
    with pytest.raises(errors.GraphQLErrors):
        answer.done()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (failed("ACCESS_DENIED"), errors.ScopeDenied),
        (failed("SHOP_INACTIVE"), errors.ShopUnavailable),
        (failed("SOMETHING"), errors.GraphQLErrors),
        (told({"errors": "x"}, status=402), errors.ShopUnavailable),
        (told({"errors": "x"}, status=423), errors.ShopUnavailable),
        (told({"errors": "x"}, status=404), errors.ShopUnavailable),
        (told({"errors": "merchant approval for read_orders"}, status=403), errors.ScopeDenied),
        (told({"errors": "x"}, status=430), errors.Refused),
        (told({"errors": "x"}, status=400), errors.Refused),
        (told({}, status=302, Location="https://evil.example.com/"), errors.Refused),
    ],
)
async def test_what_shopify_refuses_has_its_name_and_is_asked_once(
    script: Script, shop: AdminClient, answer: Answer, kind: type[errors.ShopifyError]
) -> None:
    script.says(answer)
    with pytest.raises(kind) as caught:
        await shop.graphql(QUERY)
    assert not caught.value.retryable
    assert len(script.asked) == 1


async def test_an_error_inside_of_shopify_is_repeated_for_a_query_alone(
    script: Script, shop: AdminClient
) -> None:
    script.says(failed("INTERNAL_SERVER_ERROR"), told(DATA))
    assert (await shop.graphql(QUERY)).data == DATA["data"]
    script.says(failed("INTERNAL_SERVER_ERROR"))
    with pytest.raises(errors.OutcomeUnknown):
        await shop.graphql(MUTATION)
    assert len(script.asked) == 3


async def test_a_query_that_shopify_answers_in_part_is_repeated_then_told(
    script: Script, shop: AdminClient
) -> None:
    part = failed("INTERNAL_SERVER_ERROR", data={"shop": None, "a": 1})
    script.says(part, told(DATA))
    assert (await shop.graphql(QUERY)).errors == ()
    script.says(part)
    answer = await shop.graphql(QUERY)
    assert (answer.data, answer.errors[0]["message"]) == ({"shop": None, "a": 1}, "no")
    assert len(script.asked) == 2 + shop.admin.attempts
    # A change that was made in part is not made again.
    assert (await shop.graphql(MUTATION)).errors
    assert len(script.asked) == 3 + shop.admin.attempts


async def test_a_shopify_that_stays_away_is_asked_a_few_times(
    script: Script, shop: AdminClient
) -> None:
    script.says(told({}, status=503))
    with pytest.raises(errors.UpstreamError) as caught:
        await shop.graphql(QUERY)
    assert (caught.value.status, len(script.asked)) == (503, shop.admin.attempts)


async def test_user_errors_are_the_callers_and_raised_on_request(
    script: Script, shop: AdminClient
) -> None:
    script.says(told({"data": {"tagsAdd": {"userErrors": [{"message": "no such tag"}]}}}))
    answer = await shop.graphql(MUTATION)
    with pytest.raises(errors.UserErrors, match="no such tag"):
        answer.done()


async def test_what_will_be_removed_is_named_by_its_operation(
    script: Script, shop: AdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    script.says(told(DATA, X_Shopify_API_Deprecated_Reason="https://shopify.dev/why"))
    for _ in range(2):
        await shop.graphql(QUERY)
    assert caplog.messages == ["Name uses what Shopify is going to remove: https://shopify.dev/why"]


async def test_an_error_keeps_no_token_whatever_caused_it() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nBad Header\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    origins = Origins(f"http://{host}:{port}/{{shop}}")
    async with server, Admin(FixedToken("shpat_s3cret"), origins=origins) as admin:
        with pytest.raises(errors.OutcomeUnknown, match="ClientResponseError") as caught:
            await admin.shop(SHOP).graphql(MUTATION)
    told: BaseException | None = caught.value
    while told is not None:
        assert "s3cret" not in repr(told)
        assert "s3cret" not in repr(vars(told))
        told = told.__cause__ or told.__context__
