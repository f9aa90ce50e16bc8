"""Browsers on their way to Shopify, back, and on to the app."""

import asyncio
import base64
import hashlib
import re
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import pytest_asyncio

from chassis.kernel import errors
from contracts.sessions import TokenMode
from testkit.signals import eventually

APP = {
    "shopify_api_key": "client-id",
    "shopify_api_secret": "the-secret-of-the-app-in-these-tests",
    "shopify_app_url": "https://app.example/",
}
SHOP = "s.myshopify.com"


@pytest_asyncio.fixture
async def configured(make_gateway: Any) -> Any:
    return await make_gateway(**APP)


async def visit(gateway: Any, path: str, **more: Any) -> Any:
    return await gateway.tell("GET", path, key=None, allow_redirects=False, **more)


async def test_a_browser_is_sent_to_shopify_with_the_cookie_of_its_state(configured: Any) -> None:
    status, text, headers = await visit(
        configured, "/auth?shop=S.myshopify.com&mode=online&return_to=/a&hmac=x&locale=el"
    )
    assert (status, text) == (302, "")
    assert headers["Location"] == f"https://{SHOP}/admin/oauth/authorize?state=s1"
    assert headers["Set-Cookie"] == "mainstay_oauth_s1=b; HttpOnly"
    assert headers["Cache-Control"] == "no-store"
    asked = configured.owners.session.begun[-1]
    assert (asked.shop, asked.mode, asked.return_to) == (SHOP, TokenMode.ONLINE, "/a")
    assert configured.owners.session.callers[-1].scopes == {"service"}


async def test_what_comes_back_reaches_its_owner_as_it_stood(configured: Any) -> None:
    query = "code=a%2Bb&hmac=00&host=YQ&shop=s.myshopify.com&state=s1&timestamp=1&x=%CE%AD+%20"
    status, _, headers = await visit(
        configured, f"/auth/callback?{query}", headers={"Cookie": "a=b; mainstay_oauth_s1=b"}
    )
    assert (status, headers["Location"]) == (302, "https://app.example/welcome")
    assert headers["Set-Cookie"] == "mainstay_oauth_s1=; Max-Age=0"
    assert headers["Referrer-Policy"] == "no-referrer"
    asked = configured.owners.session.completed[-1]
    assert (asked.query, asked.cookie) == (query, "a=b; mainstay_oauth_s1=b")


async def test_a_refusal_is_told_by_its_name_and_without_the_code(configured: Any) -> None:
    for fault, status in (
        (errors.Denied("used before", code="state_mismatch"), 403),
        (errors.Unauthenticated("not signed", code="invalid_hmac"), 401),
        (errors.Unavailable("away", code="upstream_unavailable"), 503),
    ):
        configured.owners.session.refuses = fault
        got, body, headers = await visit(configured, "/auth/callback?code=shpcode123&state=s1")
        assert (got, body["code"]) == (status, fault.code)
        assert headers["Content-Type"] == "application/problem+json"
        assert "shpcode123" not in str(body) + str(headers)
        assert "Location" not in headers


async def test_a_code_that_was_used_up_begins_anew_but_not_for_ever(configured: Any) -> None:
    again = "https://app.example/auth?shop=s.myshopify.com&mode=online&return_to=%2Fa"
    refused = errors.Conflict("used", code="reauth_required", members={"authorize_url": again})
    configured.owners.session.refuses = refused
    status, _, headers = await visit(configured, "/auth/callback?code=c")
    assert (status, headers["Location"]) == (302, again)
    cookie = headers["Set-Cookie"].partition(";")[0]
    status, body, headers = await visit(
        configured, "/auth/callback?code=d", headers={"Cookie": cookie}
    )
    assert (status, body["code"]) == (409, "reauth_required")
    refused.members["authorize_url"] = "https://app.example.evil.example/auth?shop=a"
    assert (await visit(configured, "/auth/callback?code=c"))[0] == 409


async def test_without_its_owner_nobody_is_sent_anywhere(configured: Any) -> None:
    await configured.owners.session.stop()
    for path in ("/auth?shop=s.myshopify.com", "/auth/callback?code=c&state=s1"):
        status, body, headers = await visit(configured, path)
        assert (status, body["retryable"]) == (503, True), path
        assert "Location" not in headers
        assert ("Refresh" in headers) == ("callback" in path)


@pytest.mark.parametrize("missing", APP)
async def test_without_an_app_there_is_nothing_to_authorize(
    make_gateway: Any, missing: str
) -> None:
    gateway = await make_gateway(**{name: value for name, value in APP.items() if name != missing})
    for path in ("/auth", "/auth/callback", "/auth/bounce"):
        status, body, _ = await visit(gateway, f"{path}?shop={SHOP}&shopify-reload=/")
        assert (status, body["code"]) == (503, "shopify_not_configured"), path


HOSTILE = [
    ("/auth", 422, "/shop"),
    ("/auth?shop=evil.example", 422, "/shop"),
    ("/auth?shop=s.myshopify.com%0d%0aSet-Cookie:a", 422, "/shop"),
    ("/auth?shop=s.myshopify.com.evil.example&embedded=1", 422, "/shop"),
    ("/auth?shop=%22%3E%3Cscript%3E&embedded=1", 422, "/shop"),
    ("/auth?shop=s.myshopify.com&shop=t.myshopify.com", 422, "/shop"),
    ("/auth?shop=s.myshopify.com&mode=both", 422, "/mode"),
    (f"/auth?shop=s.myshopify.com&return_to=/{'a' * 3000}", 422, "/return_to"),
    ("/auth/bounce?shop=s.myshopify.com", 422, "/shopify-reload"),
    ("/auth/callback?code=%ff", 302, None),
    ("/auth/callback?code=%00", 302, None),
    ("/auth/callback?code=c HTTP/1.1\r\nCookie: a=\udc80", 422, "/cookie"),
]


async def test_hostile_queries_are_refused_or_left_to_their_judge(configured: Any) -> None:
    address = urlsplit(configured.url)
    for path, status, pointer in HOSTILE:
        version = "" if "HTTP/1.1" in path else " HTTP/1.1"
        request = f"GET {path}{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(request.encode("utf-8", "surrogateescape"))
        answer = (await reader.read()).decode()
        writer.close()
        assert answer.startswith(f"HTTP/1.1 {status} "), path
        assert pointer is None or f'"pointer":"{pointer}"' in answer, path
    assert not configured.owners.session.begun


async def test_inside_the_admin_a_page_leaves_the_frame(configured: Any) -> None:
    host = "YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvcw"
    status, text, headers = await visit(
        configured,
        f"/auth?shop={SHOP}&host={host}&embedded=1&return_to=%2Fa%3Fb%3D%22%3Cc&id_token=x",
    )
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    link = re.search('href="([^"]*)"', text)
    assert link is not None
    address = urlsplit(link[1].replace("&amp;", "&"))
    assert (address.scheme, address.netloc, address.path) == ("https", "app.example", "/auth")
    assert parse_qs(address.query) == {
        "shop": [SHOP], "mode": ["offline"], "host": [host], "return_to": ['/a?b="<c'],
    }  # fmt: skip
    assert 'content="client-id"' in text
    assert "id_token" not in text
    assert not configured.owners.session.begun
    script = re.search("<script>(.*)</script>", text)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in headers["Content-Security-Policy"]


async def test_the_bounce_page_is_framed_by_this_shops_admin_alone(configured: Any) -> None:
    for reload in ("/home?tab=1", "https://app.example/home?tab=1"):
        status, text, headers = await visit(
            configured, f"/auth/bounce?shop={SHOP}&host=YQ&shopify-reload={quote(reload, safe='')}"
        )
        assert status == 200
        assert '<script src="https://cdn.shopify.com/shopifycloud/app-bridge.js"></script>' in text
        assert headers["Content-Security-Policy"].endswith(
            f"frame-ancestors https://{SHOP} https://admin.shopify.com;"
        )
        assert headers["Cache-Control"] == "no-store"


async def test_the_bounce_page_leads_nowhere_else(configured: Any) -> None:
    for reload in (
        "https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)",
        "https://app.example.evil.example/", "https://app.example@evil.example/", "", "home",
    ):  # fmt: skip
        status, body, _ = await visit(
            configured, f"/auth/bounce?shop={SHOP}&shopify-reload={quote(reload, safe='')}"
        )
        assert (status, body["errors"][0]["pointer"]) == (422, "/shopify-reload"), reload


async def test_strangers_are_counted_by_their_address(configured: Any) -> None:
    configured.owners.ratelimit.refused.add("api-ip")

    async def is_refused() -> bool:
        """At once, unless the limiter took too long to be waited for."""
        before = len(configured.owners.session.begun)
        status, _, _ = await visit(configured, f"/auth?shop={SHOP}")
        return status == 429 and len(configured.owners.session.begun) == before

    await eventually(is_refused)
