"""The rules of calling Shopify, without a call."""

import asyncio

import pytest

from mainstay.shopify import errors, rest, retries
from mainstay.shopify.notices import Notices
from mainstay.shopify.received import received
from mainstay.shopify.responses import MemoryResponses, packed, unpacked
from mainstay.shopify.shops import Origins
from mainstay.shopify.throttle import UNKNOWN_COST, Cost, Costs, Throttle, cost_of
from mainstay.shopify.tokens import Token

SHOP = "a.myshopify.com"
BASES = (f"https://{SHOP}/admin/api/",)


def cost(requested: float | None, available: float, restore_rate: float = 100) -> Cost:
    return Cost(requested, None, Throttle(available, 1000, restore_rate))


def test_the_wait_is_for_what_is_missing_with_up_to_a_quarter_more() -> None:
    assert cost(500, 300).wait_s(0) == 2.0
    assert cost(500, 300).wait_s(1) == 2.5
    assert cost(500, 600).wait_s(0) == 0.1
    assert cost(1000, 0, restore_rate=1).wait_s(1) == 30
    assert Cost().wait_s(0) == 1.0
    assert cost(1, 0, restore_rate=0).wait_s(0) == 1.0


def test_a_cost_above_the_bucket_never_fits() -> None:
    assert cost(1001, 1000).never_fits
    assert not cost(1000, 0).never_fits
    assert not Cost().never_fits


def test_a_cost_is_read_as_far_as_it_is_told() -> None:
    status = {"currentlyAvailable": 666, "maximumAvailable": 1000.0, "restoreRate": 50.0}
    said = {"requestedQueryCost": 752, "actualQueryCost": None, "throttleStatus": status}
    assert cost_of({"extensions": {"cost": said}}) == Cost(752, None, Throttle(666, 1000, 50))
    for odd in ({}, {"extensions": []}, {"extensions": {"cost": {"throttleStatus": {}}}}):
        assert cost_of(odd) == Cost()


def test_a_cost_is_remembered_by_the_text_of_the_query() -> None:
    costs = Costs()
    assert costs.of("{ a }") == UNKNOWN_COST
    costs.learn("{ a }", 12.2)
    costs.learn("{ a }", None)
    assert (costs.of("{ a }"), costs.of("{ b }")) == (13, UNKNOWN_COST)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (errors.Throttled("", shop=SHOP, retry_after_s=2.5), 2.5),
        (errors.Throttled("", shop=SHOP, retry_after_s=0), 0.1),
        (errors.UpstreamError("", shop=SHOP, retry_after_s=1.5), 1.5),
        (errors.NetworkError("", shop=SHOP), 1.0),
        (errors.OutcomeUnknown("", shop=SHOP, retry_after_s=1), None),
        (errors.DeadlineExceeded("", shop=SHOP), None),
        (errors.ScopeDenied("", shop=SHOP), None),
        (errors.QueryTooExpensive("", shop=SHOP), None),
    ],
)
def test_a_repeat_waits_as_told_or_by_back_off_or_there_is_none(
    error: errors.ShopifyError, wanted: float | None
) -> None:
    assert retries.pause_s(error, 2, 1.0) == wanted


def test_the_back_off_ends() -> None:
    assert retries.pause_s(errors.NetworkError("", shop=SHOP), 30, 1.0) == retries.LONGEST_PAUSE_S


@pytest.mark.parametrize(
    ("given_path", "path"),
    [
        ("products", "products.json"),
        ("products.json", "products.json"),
        ("/orders/12/refunds", "orders/12/refunds.json"),
        ("custom_collections/1.json", "custom_collections/1.json"),
    ],
)
def test_a_path_of_rest_ends_in_json(given_path: str, path: str) -> None:
    assert rest.path_of(given_path) == path


@pytest.mark.parametrize(
    "path",
    ["", "/", "..", "../oauth/access_token", "a/../b", "a//b", "a/./b", "a?b=c", "a#b", "a\\b",
     "a%2e%2e/b", "http://evil/", "@evil/a", "a b", "a\n", "ά", "a/.json"],
)  # fmt: skip
def test_a_path_stays_below_the_version(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        rest.path_of(path)


def test_a_query_of_rest_is_text() -> None:
    given_query = {"ids": [1, 2], "limit": 50, "published": True, "title": None, "s": "a b"}
    assert rest.query_of(given_query) == {
        "ids": "1,2", "limit": "50", "published": "true", "s": "a b",
    }  # fmt: skip


def test_the_pages_are_those_of_the_shops_own_links() -> None:
    link = (
        f'<https://{SHOP}/admin/api/2026-10/products.json?limit=50&page_info=abc>; rel="next", '
        f"<https://{SHOP}/admin/api/2026-10/products.json?page_info=xyz%3D>; rel=previous"
    )
    assert rest.pages_of(link, BASES) == {"next": "abc", "previous": "xyz="}
    assert rest.pages_of(None, BASES) == {}


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example.com/admin/api/2026-10/products.json?page_info=abc",
        f"http://{SHOP}/admin/api/2026-10/products.json?page_info=abc",
        f"https://{SHOP}@evil.example.com/admin/api/x.json?page_info=abc",
        f"https://{SHOP}:444/admin/api/x.json?page_info=abc",
        f"https://{SHOP}.evil.example.com/admin/api/x.json?page_info=abc",
        f"https://{SHOP}/elsewhere?page_info=abc",
        f"https://{SHOP}/admin/api/x.json?page_info=a&page_info=b",
        f"https://{SHOP}/admin/api/x.json",
        "//[",
        "",
    ],
)
def test_a_link_to_another_host_is_not_followed(address: str) -> None:
    assert rest.pages_of(f'<{address}>; rel="next"', BASES) == {}


def test_the_calls_of_rest_are_read() -> None:
    assert rest.calls_of("32/40") == (32, 40)
    for odd in (None, "", "32", "a/b", "-1/40"):
        assert rest.calls_of(odd) is None


@pytest.mark.parametrize(
    "name",
    ["a.myshopify.com\n", "a.myshopify.com/", "a@myshopify.com", "https://a.myshopify.com",
     "a#b.myshopify.com", "a\\b.myshopify.com", "-a.myshopify.com", "xn--ά.myshopify.com",
     f"{'a' * 300}.myshopify.com", "", "a.myshopify.com.evil.example.com", "myshopify.com",
     ".myshopify.com", "a.b.myshopify.com"],
)  # fmt: skip
def test_what_is_no_shop_never_stands_in_an_address(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a shop"):
        Origins().of(name)


def test_a_shop_is_named_in_lower_case() -> None:
    assert Origins().of("Test-Shop.MyShopify.com") == "https://test-shop.myshopify.com"
    assert Origins(suffixes=("shop.dev",)).named("a.shop.dev") == "a.shop.dev"


def test_nothing_that_is_printed_holds_a_token() -> None:
    error = errors.TokenRefused("bad shpat_0a1B and eyJhbGciOi.J9.x", shop=SHOP)
    for text in (str(error), repr(error), repr(Token("shpat_0a1B", 3))):
        assert "0a1B" not in text
        assert "eyJ" not in text


def test_an_error_tells_no_page_and_no_end_of_words() -> None:
    assert len(str(errors.GraphQLErrors([{"message": "x" * 9_000}], shop=SHOP))) < 400


async def test_what_is_remembered_is_bounded_and_ends() -> None:
    now = 0.0
    kept = MemoryResponses(10, clock=lambda: now)
    await kept.put("a", b"12345", 5)
    await kept.put("b", b"12345", 50)
    assert await kept.get("a") == b"12345"
    await kept.put("c", b"1", 50)
    assert [await kept.get(key) for key in "abc"] == [b"12345", None, b"1"]
    await kept.put("d", b"x" * 11, 50)
    assert await kept.get("d") is None
    now = 6.0
    assert [await kept.get(key) for key in "ac"] == [None, b"1"]


async def test_an_answer_that_is_too_old_for_the_caller_is_none() -> None:
    answer = received(200, {"X-Request-Id": "r", "Set-Cookie": "no"}, b'{"data": 1}')
    kept = packed(answer)
    assert unpacked(kept, 60) == answer
    assert answer.headers == {"X-Request-Id": "r"}
    # Older than the caller takes it: its age is told by the clock of the wall.
    await asyncio.sleep(0.01)
    assert unpacked(kept, 0.005) is None
    assert unpacked(None, 60) is None


def test_a_warning_comes_once_in_five_minutes(caplog: pytest.LogCaptureFixture) -> None:
    moments = iter((0, 0, 1, 1, 299, 299, 301, 301))
    notices = Notices(clock=lambda: next(moments))
    for _ in range(4):
        notices.version("2025-10", "2026-01")
        notices.deprecated("GetShop", "https://shopify.dev/x")
    notices.version("2026-10", "2026-10")
    notices.version("2026-10", None)
    notices.deprecated("GetShop", None)
    assert sorted(caplog.messages) == [
        "GetShop uses what Shopify is going to remove: https://shopify.dev/x",
        "GetShop uses what Shopify is going to remove: https://shopify.dev/x",
        "Shopify answers version 2026-01 in place of 2025-10",
        "Shopify answers version 2026-01 in place of 2025-10",
    ]
