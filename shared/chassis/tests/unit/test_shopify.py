"""Names of shops and signatures of webhooks, of any input whatever."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel.shopify import InvalidShop, Shops, is_path, webhook_is_signed

SHOPS = Shops()


@pytest.mark.parametrize(
    "given",
    [
        "Greek-Olives.myshopify.com",
        "https://greek-olives.myshopify.com/",
        " greek-olives.myshopify.com//",
    ],
)
def test_a_shop_is_known_however_it_is_spelled(given: str) -> None:
    assert SHOPS.named(given) == "greek-olives.myshopify.com"


@pytest.mark.parametrize(
    "given",
    [
        "", "myshopify.com", ".myshopify.com", "a.myshopify.com\n", "a.myshopify.com.evil.example",
        "a@b.myshopify.com", "evil.example/a.myshopify.com", "a.myshopify.com#",
        "a\\.myshopify.com",
        "-a.myshopify.com", "a.b.myshopify.com", "xn--é.myshopify.com", "a" * 61 + ".myshopify.com",
        "a.myshopify.com:8080", "a.myshopify.com?x", "a.shop.dev", "а.myshopify.com",
    ],
)  # fmt: skip
def test_what_is_no_shop_has_no_url(given: str) -> None:
    with pytest.raises(InvalidShop):
        SHOPS.named(given)
    with pytest.raises(InvalidShop):
        SHOPS.origin(given)


@given(st.text())
def test_whatever_passes_is_one_plain_host_name(given: str) -> None:
    try:
        shop = SHOPS.named(given)
    except InvalidShop:
        return
    assert SHOPS.named(shop) == shop
    assert set(shop) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_further_domains_and_the_origin_are_configured() -> None:
    shops = Shops(origin="http://127.0.0.1:1/{shop}", suffixes=["shop.dev"])
    assert shops.origin("a.shop.dev") == "http://127.0.0.1:1/a.shop.dev"


@given(st.binary(), st.text())
def test_only_the_secrets_own_signature_passes(body: bytes, other: str) -> None:
    signature = base64.b64encode(hmac.digest(b"old", body, hashlib.sha256)).decode()
    assert webhook_is_signed(body, signature, ["new", "old"])
    assert not webhook_is_signed(body, signature, ["new"])
    assert not webhook_is_signed(body + b" ", signature, ["old"])
    assert webhook_is_signed(body, other, ["new", "old"]) is False


@pytest.mark.parametrize("path", ["/", "/a", "/a/b?c=d&e=%2F#f", "/a//b", "/~a'(b)", "/?next=//x"])
def test_a_path_stays_on_the_host(path: str) -> None:
    assert is_path(path)


@pytest.mark.parametrize(
    "path",
    ["", "a", "//evil.example", "/\\evil.example", "\\/evil.example", "https://evil.example",
     "@evil.example", ".evil.example", "/a b", "/a\n", "\n/a", "/a\t", "/a\\b", "/\x00", "/έ",
     " /a", ":80/"],
)  # fmt: skip
def test_what_browsers_may_take_for_another_host_is_no_path(path: str) -> None:
    assert not is_path(path)
