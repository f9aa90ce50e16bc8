"""Where a browser may be sent inside Shopify's admin."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from chassis.kernel.shopify import Shops
from session_service.core import hosts

SHOP = "olives.myshopify.com"
SHOPS = Shops()


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def admin(host: str) -> str:
    return hosts.admin_at(host, shop=SHOP, shops=SHOPS)


@pytest.mark.parametrize("padding", [True, False])
def test_both_of_shopifys_forms_are_understood(padding: bool) -> None:
    for text, address in (
        ("admin.shopify.com/store/olives", "https://admin.shopify.com/store/olives"),
        (f"{SHOP}/admin", f"https://{SHOP}/admin"),
    ):
        given = coded(text) if padding else coded(text).rstrip("=")
        assert admin(given) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "evil.example/admin",
        "admin.shopify.com",
        "admin.shopify.com/store/",
        "admin.shopify.com/store/a/b",
        "admin.shopify.com/store/a?b",
        "admin.shopify.com/store/a#b",
        "admin.shopify.com/store/a\n",
        "admin.shopify.com/store/..",
        "admin.shopify.com:443/store/a",
        "admin.shopify.com@evil.example/store/a",
        "user@admin.shopify.com/store/a",
        "admin.shopify.com\\@evil.example/store/a",
        "admin.shopify.com.evil.example/store/a",
        "evil.example/admin.shopify.com/store/a",
        "https://admin.shopify.com/store/a",
        "//admin.shopify.com/store/a",
        "ADMIN.shopify.com/store/a",
        "аdmin.shopify.com/store/a",
        "other.myshopify.com/admin",
        f"{SHOP}/admin/x",
        f"{SHOP}/",
        f"{SHOP}.evil.example/admin",
        f"evil.example?{SHOP}/admin",
        f"{SHOP}:8080/admin",
    ],
)
def test_whatever_else_is_refused(text: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        admin(coded(text))
    assert refused.value.flaws[0].pointer == "/host"
    assert text == "" or text not in refused.value.detail


@pytest.mark.parametrize("host", ["*", "YWRt===", "YW Rt", "YWRt\n", "_-", "=", "é", "/w=="])
def test_what_is_no_base64_is_refused(host: str) -> None:
    with pytest.raises(errors.Invalid):
        admin(host)


@given(st.one_of(st.text(max_size=60), st.text(max_size=60).map(coded)))
def test_nothing_leads_elsewhere(host: str) -> None:
    try:
        address = admin(host)
    except errors.Invalid:
        return
    assert address.startswith(("https://admin.shopify.com/store/", f"https://{SHOP}/admin"))
