"""The Admin API of a shop through the door, against a shop that answers as it is told."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio as redis
from aiohttp import web

from localstack.servers.redis import RedisServer
from testkit.clock import FakeClock
from testkit.faults import TcpProxy
from testkit.scripts import Answer, Script, reset, silence, told
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
TOKEN = "shpat_0123456789abcdef"
PROXY = frozenset({"shopify:proxy"})
WRITER = frozenset({"sessions:read", "sessions:write", "tokens:read"})
GRAPHQL = f"/v1/shops/{SHOP}/admin/graphql"
REST = f"/v1/shops/{SHOP}/admin/rest"
QUERY = {"query": "{ shop { name } }"}
MUTATION = {"query": "mutation { productDelete(input: {id: 1}) { deletedProductId } }"}
GOOD = {"data": {"shop": {"name": "Olives"}}}


class Shop(Script):
    """A shop that says what it is told in turn, and GOOD from then on."""

    @property
    def origin(self) -> str:
        return f"{self.url}/{{shop}}"

    def then(self, *answers: Answer) -> None:
        self.says(*answers, told(GOOD))


def page(text: str, *, status: int = 200, **headers: str) -> Answer:
    """Not always JSON, and as it is written."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=named)

    return answer


@pytest_asyncio.fixture
async def shop() -> AsyncIterator[Shop]:
    async with Shop() as shop:
        shop.then()
        yield shop


def app_of(shop: Shop) -> dict[str, Any]:
    return {
        "shopify_api_key": "client",
        "shopify_api_secret": "hush",
        "shopify_shop_origin": shop.origin,
    }


def offline(**more: Any) -> dict[str, Any]:
    return {"id": f"offline_{SHOP}", "shop": SHOP, "isOnline": False, "accessToken": TOKEN,
            "scope": "read_products", **more}  # fmt: skip


async def keep(service: Any, session: dict[str, Any]) -> None:
    answer = await service.call("PUT", f"/v1/sessions/{session['id']}", session, scopes=WRITER)
    assert answer.status == 200


@pytest_asyncio.fixture
async def service(start: Any, shop: Shop) -> Any:
    service = await start(**app_of(shop))
    await keep(service, offline())
    return service


async def graphql(service: Any, document: Any = None, **headers: str) -> Any:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return await service.post(GRAPHQL, document or QUERY, scopes=PROXY, headers=named)


def throttled(*, requested: float, available: float, rate: float) -> dict[str, Any]:
    bucket = {"maximumAvailable": 1000.0, "currentlyAvailable": available, "restoreRate": rate}
    return {
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
        "extensions": {
            "cost": {"requestedQueryCost": requested, "actualQueryCost": None,
                     "throttleStatus": bucket},
        },
    }  # fmt: skip


async def test_an_app_needs_no_token(service: Any, shop: Shop) -> None:
    raw = '{"data": {"big": 12345678901234567890123, "n": 1.10}}'
    shop.then(page(raw, X_Request_Id="r-1", X_Shopify_API_Version="2026-10", Set_Cookie="a=b"))
    document = {"query": "query Q($n: Int) { a }", "variables": {"n": 1}, "operationName": "Q"}
    answer = await graphql(service, document)
    assert (answer.status, answer.raw.decode()) == (200, raw)
    assert answer.headers["X-Request-Id"] == "r-1"
    assert answer.headers["X-Shopify-API-Version"] == "2026-10"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in answer.headers
    [asked] = shop.asked
    assert (asked.method, asked.headers["X-Shopify-Access-Token"]) == ("POST", TOKEN)
    assert asked.path == f"/{SHOP}/admin/api/2026-10/graphql.json"
    assert json.loads(asked.body) == document


async def test_the_version_is_the_callers(service: Any, shop: Shop) -> None:
    assert (await graphql(service, Shopify_Api_Version="2026-07")).status == 200
    assert "/admin/api/2026-07/" in shop.asked[0].path
    refused = await graphql(service, Shopify_Api_Version="2026-07/../x")
    assert (refused.status, refused.pointers) == (422, ["/Shopify-Api-Version"])
    assert len(shop.asked) == 1


async def test_who_may_not_is_told_so_and_nobody_is_called(service: Any, shop: Shop) -> None:
    for path, how, status, code in (
        (GRAPHQL, {"scopes": WRITER}, 403, "missing_scope"),
        (GRAPHQL, {"scopes": PROXY, "shop": "other.myshopify.com"}, 403, "other_shop"),
        ("/v1/shops/evil.com%23.myshopify.com/admin/graphql", {"scopes": PROXY}, 422,
         "invalid_shop"),
        ("/v1/shops/evil.example/admin/rest/products", {"scopes": PROXY}, 422, "invalid_shop"),
        ("/v1/shops/nobody.myshopify.com/admin/graphql", {"scopes": PROXY}, 404,
         "session_not_found"),
    ):  # fmt: skip
        answer = await service.post(path, QUERY, **how)
        assert (answer.status, answer.body["code"]) == (status, code)
    assert not shop.asked


async def test_without_an_app_at_shopify_it_says_so(start: Any) -> None:
    service = await start()
    for answer in (
        await graphql(service),
        await service.get(f"{REST}/products", scopes=PROXY),
    ):
        assert (answer.status, answer.body["code"]) == (503, "shopify_not_configured")


async def test_a_document_that_is_none_is_refused_here(service: Any, shop: Shop) -> None:
    for raw, status in ((b"{", 400), (b"{}", 422), (b'{"query": "{a}", "x": 1}', 422)):
        answer = await service.call("POST", GRAPHQL, raw=raw, scopes=PROXY)
        assert answer.status == status
    answer = await service.call("POST", f"{REST}/products", raw=b"{", scopes=PROXY)
    assert answer.status == 400
    answer = await service.call("GET", f"{REST}/products?a=1&a=2", scopes=PROXY)
    assert (answer.status, answer.pointers) == (422, ["/a"])
    assert not shop.asked


async def test_rest_passes_words_both_ways(service: Any, shop: Shop) -> None:
    body = b'{"product": {"title": "\\u03b5\\u03bb\\u03b9\\u03ad\\u03c2", "price": 1.10}}'
    shop.then(told({"product": {"id": 1}}, status=201, X_Shopify_Shop_Api_Call_Limit="1/40"))
    answer = await service.call(
        "POST", f"{REST}/products/1/images.json?fields=id%2Ctitle", raw=body, scopes=PROXY
    )
    assert (answer.status, answer.body) == (201, {"product": {"id": 1}})
    assert answer.headers["X-Shopify-Shop-Api-Call-Limit"] == "1/40"
    [asked] = shop.asked
    assert asked.path == f"/{SHOP}/admin/api/2026-10/products/1/images.json"
    assert (asked.query, asked.body) == ({"fields": "id,title"}, body)


@pytest.mark.parametrize("status", [400, 403, 404, 406, 422])
async def test_what_the_caller_did_wrong_is_shopifys_to_say(
    service: Any, shop: Shop, status: int
) -> None:
    shop.then(told({"errors": {"title": ["can't be blank"]}}, status=status, X_Request_Id="r-2"))
    answer = await service.call("GET", f"{REST}/products", scopes=PROXY)
    assert (answer.status, answer.body) == (status, {"errors": {"title": ["can't be blank"]}})
    assert answer.headers["X-Request-Id"] == "r-2"
    assert answer.headers["Content-Type"].startswith("application/json")


async def test_a_page_leads_to_the_next_by_our_own_path(service: Any, shop: Shop) -> None:
    base = shop.origin.replace("{shop}", SHOP)
    link = (
        f'<{base}/admin/api/2026-10/products.json?limit=2&page_info=abc%3D>; rel="next", '
        f'<https://{SHOP}/admin/api/2026-10/products.json?page_info=before>; rel="previous"'
    )
    shop.then(told({"products": []}, Link=link))
    answer = await service.call("GET", f"{REST}/products?limit=2&vendor=x", scopes=PROXY)
    assert answer.headers["Link"] == (
        f'<{REST}/products.json?limit=2&page_info=abc%3D>; rel="next", '
        f'<{REST}/products.json?limit=2&page_info=before>; rel="previous"'
    )
    following = answer.headers["Link"].split(">")[0][1:]
    assert (await service.call("GET", following, scopes=PROXY)).status == 200
    assert shop.asked[1].query == {"limit": "2", "page_info": "abc="}


@pytest.mark.parametrize(
    "address",
    ["https://evil.example/admin/api/2026-10/products.json?page_info=a",
     f"https://{SHOP}@evil.example/admin/api/2026-10/products.json?page_info=a",
     f"https://{SHOP}/elsewhere?page_info=a"],
)  # fmt: skip
async def test_a_link_to_elsewhere_is_dropped(service: Any, shop: Shop, address: str) -> None:
    shop.then(told({"products": []}, Link=f'<{address}>; rel="next"'))
    answer = await service.call("GET", f"{REST}/products", scopes=PROXY)
    assert answer.status == 200
    assert "Link" not in answer.headers


async def test_hostile_paths_are_not_called(service: Any, shop: Shop) -> None:
    for path in ("%2e%2e/x", "a%2F..%2Fb", "graphql", "a/%00", "a//b", "x@y", "a%0d%0ab"):
        answer = await service.call("GET", f"{REST}/{path}", scopes=PROXY)
        assert (answer.status, answer.body["code"]) == (404, "not_found"), path
    assert not shop.asked


async def test_who_is_throttled_waits_by_the_formula(service: Any, shop: Shop) -> None:
    shop.then(told(throttled(requested=110, available=90, rate=100)))
    started = time.monotonic()
    answer = await graphql(service, MUTATION)
    assert (answer.status, answer.body) == (200, GOOD)
    assert len(shop.asked) == 2
    assert 0.2 <= time.monotonic() - started < 1.0


async def test_a_throttle_beyond_the_deadline_is_told_at_once(service: Any, shop: Shop) -> None:
    shop.then(told(throttled(requested=900, available=0, rate=50)))
    started = time.monotonic()
    answer = await graphql(service, Request_Timeout_Ms="3000")
    assert (answer.status, answer.body["code"]) == (429, "shopify_throttled")
    assert answer.body["retryable"]
    assert 18 <= int(answer.headers["Retry-After"]) <= 23
    assert time.monotonic() - started < 1.0
    assert len(shop.asked) == 1


async def test_a_429_is_waited_for_by_its_own_seconds(service: Any, shop: Shop) -> None:
    shop.then(told({"errors": "slow down"}, status=429, Retry_After="0.3"))
    started = time.monotonic()
    answer = await service.call("POST", f"{REST}/products", {"product": {}}, scopes=PROXY)
    assert (answer.status, len(shop.asked)) == (200, 2)
    assert time.monotonic() - started >= 0.3


async def test_a_query_that_is_too_expensive_is_answered_as_shopify_does(
    service: Any, shop: Shop
) -> None:
    refusal = {"errors": [{"message": "cost", "extensions": {"code": "MAX_COST_EXCEEDED"}}]}
    shop.then(told(refusal))
    answer = await graphql(service)
    assert (answer.status, answer.body, len(shop.asked)) == (200, refusal, 1)


async def test_data_with_errors_is_passed_on_whole(service: Any, shop: Shop) -> None:
    partly = {"data": {"a": 1, "b": None}, "errors": [{"message": "no", "path": ["b"]}]}
    shop.then(told(partly))
    answer = await graphql(service)
    assert (answer.status, answer.body, len(shop.asked)) == (200, partly, 1)


def lost(how: str) -> Answer:
    return reset if how == "reset" else page("<html>", status=int(how))


@pytest.mark.parametrize("how", ["500", "502", "504", "reset"])
async def test_a_change_whose_outcome_is_unknown_is_not_repeated(
    service: Any, shop: Shop, how: str
) -> None:
    shop.then(lost(how), lost(how))
    for count, path, document in (
        (1, GRAPHQL, MUTATION),
        (2, f"{REST}/products", {"product": {}}),
    ):
        answer = await service.post(path, document, scopes=PROXY)
        assert (answer.status, answer.body["code"]) == (502, "shopify_outcome_unknown")
        assert not answer.body["retryable"]
        assert len(shop.asked) == count


@pytest.mark.parametrize("how", ["502", "reset"])
async def test_a_change_with_a_key_is_repeated(service: Any, shop: Shop, how: str) -> None:
    shop.then(lost(how))
    assert (await graphql(service, MUTATION, Idempotency_Key="k-1")).status == 200
    assert len(shop.asked) == 2


@pytest.mark.parametrize("how", ["500", "502", "504", "reset"])
async def test_a_question_is_repeated(service: Any, shop: Shop, how: str) -> None:
    shop.then(lost(how))
    assert (await graphql(service)).body == GOOD
    assert len(shop.asked) == 2


async def test_shopify_away_is_unavailable_and_not_ours(service: Any, shop: Shop) -> None:
    shop.says(page("<html>", status=503))
    answer = await graphql(service, Request_Timeout_Ms="2000")
    assert (answer.status, answer.body["code"]) == (503, "upstream_unavailable")
    assert "<html>" not in answer.raw.decode()


@pytest.mark.parametrize("status", [402, 423])
async def test_a_frozen_shop_is_unavailable(service: Any, shop: Shop, status: int) -> None:
    shop.then(told({"errors": "Unavailable Shop"}, status=status))
    answer = await graphql(service)
    assert (answer.status, answer.body["code"]) == (409, "shop_unavailable")


async def test_no_answer_in_time(service: Any, shop: Shop) -> None:
    shop.says(silence)
    for document, status, code in (
        (QUERY, 504, "deadline_exceeded"),
        (MUTATION, 502, "shopify_outcome_unknown"),
    ):
        started = time.monotonic()
        answer = await graphql(service, document, Request_Timeout_Ms="300")
        assert (answer.status, answer.body["code"]) == (status, code)
        assert time.monotonic() - started < 0.3


async def test_redirects_are_not_followed_with_the_token(service: Any, shop: Shop) -> None:
    shop.then(page("", status=302, Location="/elsewhere"))
    answer = await service.call("GET", f"{REST}/products", scopes=PROXY)
    assert (answer.status, answer.body["code"]) == (503, "upstream_unavailable")
    assert len(shop.asked) == 1


async def test_a_token_of_shopify_in_an_error_is_not_told(service: Any, shop: Shop) -> None:
    shop.then(told({"errors": f"bad token {TOKEN}"}, status=402))
    answer = await graphql(service)
    assert answer.status == 409
    assert TOKEN not in answer.raw.decode()


async def test_shops_that_call_at_once_never_get_anothers_token_or_answer(
    service: Any, shop: Shop
) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        said = [request.path.split("/")[1], request.headers["X-Shopify-Access-Token"]]
        return web.json_response({"data": said})

    shop.says(echo)
    names = [f"shop-{number}.myshopify.com" for number in range(50)]
    for name in names:
        session = {"id": f"offline_{name}", "shop": name, "accessToken": f"token of {name}"}
        await keep(service, session)

    async def call(name: str) -> None:
        path = f"/v1/shops/{name}/admin/graphql"
        how = {"Cache-Control": "max-age=60"}
        answer = await service.post(path, QUERY, scopes=PROXY, headers=how)
        assert answer.body == {"data": [name, f"token of {name}"]}

    for _ in range(2):
        await asyncio.gather(*(call(name) for name in names))


async def test_while_the_database_is_away_a_copy_of_the_session_does(
    start: Any, shop: Shop, database: str, redis_url: str
) -> None:
    clock = FakeClock(datetime.now(UTC))
    async with TcpProxy.before(database) as way:
        service = await start(
            clock=clock, database_url=way.url(database), redis_url=redis_url, **app_of(shop)
        )
        await keep(service, offline())
        clock.advance(2.1)
        await way.refuses()
        answer = await graphql(service)
        assert (answer.status, answer.body) == (200, GOOD)
        assert answer.headers["Degraded"].startswith("sessions;stale=")


class TestRefusedTokens:
    """Of what the shop is asked the questions for tokens are part."""

    PAIR = {"access_token": "shpat_new", "scope": "read_products", "expires_in": 3600,
            "refresh_token": "shprt_new", "refresh_token_expires_in": 7_776_000}  # fmt: skip
    REFUSED = {"errors": "[API] Invalid API key or access token"}

    @pytest_asyncio.fixture
    async def renewable(self, service: Any) -> Any:
        now_ms = int(time.time() * 1000)
        dates = {"expires": now_ms + 3_600_000, "refreshTokenExpires": now_ms + 7_776_000_000}
        await keep(service, offline(refreshToken="shprt_old", **dates))
        return service

    async def test_a_401_is_repeated_with_a_new_token(self, renewable: Any, shop: Shop) -> None:
        shop.then(told(self.REFUSED, status=401), told(self.PAIR))
        answer = await graphql(renewable, MUTATION)
        assert (answer.status, answer.body) == (200, GOOD)
        first, grant, second = shop.asked
        assert first.headers["X-Shopify-Access-Token"] == TOKEN
        assert grant.document["refresh_token"] == "shprt_old"
        assert second.headers["X-Shopify-Access-Token"] == "shpat_new"
        assert second.body == first.body

    async def test_a_second_401_ends_after_two_calls_and_one_renewal(
        self, renewable: Any, shop: Shop
    ) -> None:
        refusal = told(self.REFUSED, status=401)
        shop.says(refusal, told(self.PAIR), refusal)
        answer = await graphql(renewable)
        assert (answer.status, answer.body["code"]) == (502, "shopify_refused")
        assert [asked.path.rpartition("/")[2] for asked in shop.asked] == [
            "graphql.json", "access_token", "graphql.json",
        ]  # fmt: skip
        assert (await graphql(renewable)).body["code"] == "shopify_refused"
        assert len(shop.asked) == 4  # nothing is renewed twice in 30 s, so nothing is repeated

    async def test_a_token_that_has_ended_is_renewed_before_it_is_used(
        self, service: Any, shop: Shop
    ) -> None:
        dates = {"expires": 1, "refreshTokenExpires": int(time.time() * 1000) + 7_776_000_000}
        await keep(service, offline(refreshToken="shprt_old", **dates))
        shop.then(told(self.PAIR))
        assert (await graphql(service)).status == 200
        assert shop.asked[1].headers["X-Shopify-Access-Token"] == "shpat_new"

    async def test_a_token_without_an_end_is_exchanged_when_shopify_takes_it_no_more(
        self, service: Any, shop: Shop
    ) -> None:
        words = "Non-expiring access tokens are no longer accepted for the Admin API."
        shop.then(told({"errors": words}, status=403), told(self.PAIR))
        assert (await graphql(service)).body == GOOD
        assert shop.asked[1].document["subject_token"] == TOKEN
        assert shop.asked[2].headers["X-Shopify-Access-Token"] == "shpat_new"

    async def test_where_nothing_renews_the_shop_must_authorize_again(
        self, renewable: Any, shop: Shop
    ) -> None:
        dead = told({"error": "invalid_grant"}, status=400)
        shop.says(told(self.REFUSED, status=401), dead)
        answer = await graphql(renewable)
        assert (answer.status, answer.body["code"]) == (409, "reauth_required")


class TestRemembered:
    async def test_only_who_asks_for_it_gets_an_answer_of_before(
        self, service: Any, shop: Shop
    ) -> None:
        first = await graphql(service, Cache_Control="max-age=60")
        assert first.headers["Cache-Status"] == "mainstay; fwd=miss"
        shop.then(told({"data": {"shop": {"name": "New"}}}))
        second = await graphql(service, Cache_Control="max-age=60")
        assert (second.status, second.raw) == (200, first.raw)
        assert second.headers["Mainstay-Backend"] == "memory"
        assert "Age" in second.headers
        fresh = await graphql(service)
        assert fresh.body == {"data": {"shop": {"name": "New"}}}
        assert "Age" not in fresh.headers
        assert "Age" not in (await graphql(service, Cache_Control="no-cache, max-age=60")).headers
        assert len(shop.asked) == 3

    async def test_changes_and_errors_are_not_remembered(self, service: Any, shop: Shop) -> None:
        partly = {"data": {"a": 1}, "errors": [{"message": "no"}]}
        shop.then(told(partly))
        await graphql(service, Cache_Control="max-age=60")
        await graphql(service, Cache_Control="max-age=60")
        await graphql(service, MUTATION, Cache_Control="max-age=60")
        await graphql(service, MUTATION, Cache_Control="max-age=60")
        assert len(shop.asked) == 4

    async def test_an_answer_belongs_to_its_token(self, service: Any, shop: Shop) -> None:
        await graphql(service, Cache_Control="max-age=60")
        await keep(service, offline(accessToken="shpat_another"))
        await graphql(service, Cache_Control="max-age=60")
        tokens = [asked.headers["X-Shopify-Access-Token"] for asked in shop.asked]
        assert tokens == [
            TOKEN,
            "shpat_another",
        ]

    async def test_without_a_token_that_works_nothing_is_remembered(
        self, service: Any, shop: Shop
    ) -> None:
        await graphql(service, Cache_Control="max-age=60")
        await service.call("DELETE", f"/v1/sessions/offline_{SHOP}", scopes=WRITER)
        answer = await graphql(service, Cache_Control="max-age=60")
        assert (answer.status, len(shop.asked)) == (404, 1)

    async def test_age_is_measured(self, start: Any, shop: Shop, clock: Any) -> None:
        service = await start(clock=clock, **app_of(shop))
        await keep(service, offline())
        path = f"{REST}/products"
        for passes_s, count in ((0, 1), (9, 1), (2, 2)):
            clock.advance(passes_s)
            how = {"Cache-Control": "max-age=10"}
            answer = await service.call("GET", path, scopes=PROXY, headers=how)
            assert (answer.status, len(shop.asked)) == (200, count)

    async def test_replicas_share_what_is_sealed_in_redis(
        self, start: Any, shop: Shop, redis_url: str
    ) -> None:
        one = await start(redis_url=redis_url, **app_of(shop))
        two = await start(redis_url=redis_url, **app_of(shop))
        await keep(one, offline())
        shop.then(told({"data": {"customer": {"email": "eleni@example.com"}}}))
        await graphql(one, Cache_Control="max-age=60")
        again = await graphql(two, Cache_Control="max-age=60")
        assert again.headers["Mainstay-Backend"] == "redis"
        assert len(shop.asked) == 1
        async with redis.Redis.from_url(redis_url) as client:
            names = await client.keys("*")
            held = b"".join([*names, *[await client.get(name) for name in names]])
        assert names
        assert b"eleni" not in held
        assert b"ZWxlbml" not in held
        assert TOKEN.encode() not in held

    async def test_without_redis_memory_remembers(
        self, start: Any, shop: Shop, private_redis: RedisServer
    ) -> None:
        service = await start(redis_url=private_redis.url, **app_of(shop))
        await keep(service, offline())
        await asyncio.to_thread(private_redis.stop)

        async def remembered() -> bool:
            answer = await graphql(service, Cache_Control="max-age=60")
            assert answer.status == 200
            return bool(answer.headers.get("Mainstay-Backend") == "memory")

        assert await eventually(remembered)


class Limiter(Script):
    """ratelimit-service as far as its wire goes."""

    def __init__(self) -> None:
        super().__init__()
        self.decision: dict[str, Any] = {
            "allowed": True, "wait_ms": 0, "token": "t", "limits": [], "backend": "redis",
        }  # fmt: skip
        self.says(self._answer)

    @property
    def heard(self) -> list[tuple[str, dict[str, Any]]]:
        return [(asked.path.rpartition("/")[2], asked.document) for asked in self.asked]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        answers = {
            "reserve": self.decision,
            "refund": {"refunded": 1},
            "observe": {"limits": [], "backend": "redis"},
        }
        return web.json_response(answers[request.path.removeprefix("/v1/ratelimits/")])


class TestPaced:
    @pytest_asyncio.fixture
    async def limiter(self) -> AsyncIterator[Limiter]:
        async with Limiter() as limiter:
            yield limiter

    @pytest_asyncio.fixture
    async def paced(
        self, start: Any, shop: Shop, limiter: Limiter, process_environment: Any
    ) -> Any:
        with open(process_environment["SERVICE_KEY_FILE"]) as file:  # noqa: PTH123
            key = file.read()
        service = await start(ratelimit_service_url=limiter.url, **app_of(shop), service_key=key)
        await keep(service, offline())
        return service

    async def test_a_query_takes_its_slot_and_tells_of_the_bucket(
        self, paced: Any, shop: Shop, limiter: Limiter
    ) -> None:
        bucket = {"maximumAvailable": 2000.0, "currentlyAvailable": 1500, "restoreRate": 100.0}
        cost = {"requestedQueryCost": 30, "actualQueryCost": 12, "throttleStatus": bucket}
        shop.then(told({**GOOD, "extensions": {"cost": cost}}))
        answer = await graphql(paced)
        assert answer.status == 200
        assert "Degraded" not in answer.headers
        [(_, reserved), (_, refunded), (_, observed)] = limiter.heard
        assert [call for call, _ in limiter.heard] == ["reserve", "refund", "observe"]
        assert reserved["subject"]["shop"] == SHOP
        assert reserved["policies"] == ["shopify-gql"]
        assert refunded["cost"] == reserved["cost"] - 12
        assert (observed["available"], observed["restore_rate"]) == (1500, 100)
        await graphql(paced)
        assert limiter.heard[3][1]["cost"] == 30

    async def test_rest_takes_of_its_own_policy(
        self, paced: Any, shop: Shop, limiter: Limiter
    ) -> None:
        shop.then(told({"products": []}, X_Shopify_Shop_Api_Call_Limit="32/40"))
        await paced.call("GET", f"{REST}/products", scopes=PROXY)
        assert limiter.heard[0][1]["policies"] == ["shopify-rest"]
        assert limiter.heard[-1][1]["available"] == 8

    async def test_a_slot_is_waited_for(self, paced: Any, limiter: Limiter) -> None:
        limiter.decision |= {"wait_ms": 250}
        started = time.monotonic()
        assert (await graphql(paced)).status == 200
        assert time.monotonic() - started >= 0.25

    async def test_a_slot_beyond_the_deadline_is_not_waited_for(
        self, paced: Any, shop: Shop, limiter: Limiter
    ) -> None:
        limiter.decision |= {"allowed": False, "wait_ms": 60_000, "token": None}
        answer = await graphql(paced)
        assert (answer.status, answer.body["code"]) == (429, "shopify_throttled")
        assert not shop.asked

    async def test_how_large_a_bucket_is_knows_shopify(
        self, paced: Any, shop: Shop, limiter: Limiter
    ) -> None:
        limiter.decision |= {"allowed": False, "unsatisfiable": True, "token": None}
        assert (await graphql(paced)).status == 200
        assert len(shop.asked) == 1

    async def test_without_a_limiter_calls_go_on_and_say_so(
        self, start: Any, shop: Shop, process_environment: Any
    ) -> None:
        with open(process_environment["SERVICE_KEY_FILE"]) as file:  # noqa: PTH123
            key = file.read()
        service = await start(
            ratelimit_service_url="http://127.0.0.1:9", **app_of(shop), service_key=key
        )
        await keep(service, offline())
        for _ in range(5):
            answer = await graphql(service)
            assert (answer.status, answer.headers["Degraded"]) == (200, "pace;none")
