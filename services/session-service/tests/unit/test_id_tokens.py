"""Whose session tokens are believed, and for how long."""

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel.shopify import Shops
from session_service.core import id_tokens
from session_service.core.id_tokens import InvalidSessionToken

SHOP = "olives.myshopify.com"
KEY = "client-id-0123456789abcdef"
SECRET = "the-secret-of-the-app-in-these-tests"
OLD = "another-secret-than-that-of-the-app"
NOW_S = 1_764_066_000.0
CLAIMS = {
    "iss": f"https://{SHOP}/admin",
    "dest": f"https://{SHOP}",
    "aud": KEY,
    "sub": "902541635",
    "exp": int(NOW_S) + 60,
    "nbf": int(NOW_S),
    "iat": int(NOW_S),
    "jti": "f8912129-1af6-4cad-9ca3-76b0f7621087",
    "sid": "aaea182f2732d44c23057c0fea584021a4485b2bd25d3eb7fd349313ad24c685",
}


def made(secret: str = SECRET, *, without: tuple[str, ...] = (), **claims: Any) -> str:
    said = {name: value for name, value in (CLAIMS | claims).items() if name not in without}
    return jwt.encode(said, secret, algorithm="HS256")


def raw(header: Any, claims: Any, signature: bytes = b"") -> str:
    def part(value: Any) -> str:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    return ".".join((part(header), part(claims), part(signature)))


def verified(token: str, *, secrets: tuple[str, ...] = (SECRET,), now_s: float = NOW_S) -> Any:
    return id_tokens.verify(token, secrets=secrets, audience=KEY, shops=Shops(), now_s=now_s)


def test_a_token_of_shopify_names_its_shop_and_its_user() -> None:
    claims = verified(made())
    assert (claims.shop, claims.user_id) == (SHOP, 902541635)
    assert claims.model_dump(exclude={"shop", "user_id"}) == CLAIMS


def test_a_checkouts_token_has_neither_user_nor_session() -> None:
    claims = verified(made(without=("sub", "sid", "iat", "jti")))
    assert (claims.shop, claims.user_id, claims.sub) == (SHOP, None, None)
    assert verified(made(sub="gid://shopify/Customer/1")).user_id is None
    assert verified(made(sub="9" * 40)).user_id is None


def test_fractions_of_seconds_and_an_issuer_without_scheme_are_shopifys_too() -> None:
    claims = verified(made(exp=NOW_S + 59.25, nbf=NOW_S - 0.75, iss=f"{SHOP}/admin"))
    assert (claims.exp, claims.shop) == (NOW_S + 59.25, SHOP)


def test_both_clocks_may_be_wrong_by_ten_seconds() -> None:
    token = made()
    verified(token, now_s=NOW_S + 60 + 9)
    verified(token, now_s=NOW_S - 10)
    with pytest.raises(InvalidSessionToken, match="expired"):
        verified(token, now_s=NOW_S + 60 + 10)
    with pytest.raises(InvalidSessionToken, match="not valid yet"):
        verified(token, now_s=NOW_S - 11)


def test_the_secret_before_counts_while_it_is_being_rotated() -> None:
    verified(made(OLD), secrets=(SECRET, OLD))
    with pytest.raises(InvalidSessionToken, match="secret of this app"):
        verified(made(OLD))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "another-app"},
        {"aud": [KEY]},
        {"dest": "https://other.myshopify.com"},
        {"iss": "https://other.myshopify.com/admin"},
        {"dest": "https://evil.example", "iss": "https://evil.example/admin"},
        {"dest": f"https://{SHOP}.evil.example", "iss": f"https://{SHOP}.evil.example/admin"},
        {"dest": f"https://evil.example@{SHOP}", "iss": f"https://evil.example@{SHOP}/admin"},
        {"dest": 7},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 10**400},
        {"exp": -(10**400)},
        {"nbf": None},
        {"iat": "x"},
        {"sub": 902541635},
        {"sid": ["x"]},
    ],
)
def test_what_was_signed_for_something_else_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidSessionToken):
        verified(made(**claims))


@pytest.mark.parametrize("name", ["exp", "nbf", "aud", "dest", "iss"])
def test_what_every_token_has_is_needed(name: str) -> None:
    with pytest.raises(InvalidSessionToken, match=name):
        verified(made(without=(name,)))


def test_only_hs256_is_believed() -> None:
    for token in (
        jwt.encode(CLAIMS, SECRET * 2, algorithm="HS512"),
        raw({"alg": "none"}, CLAIMS),
        raw({"alg": "HS256"}, CLAIMS),
        raw({"typ": "JWT"}, CLAIMS),
        raw(["HS256"], CLAIMS),
        raw({"alg": "HS256"}, b"not json"),
    ):
        with pytest.raises(InvalidSessionToken):
            verified(token)


@given(st.one_of(st.text(max_size=50), st.lists(st.text(max_size=20), min_size=3).map(".".join)))
def test_any_text_is_safe_to_ask_about_and_never_repeated(text: str) -> None:
    with pytest.raises(InvalidSessionToken) as refused:
        verified(text)
    assert len(text) < 12 or text not in str(refused.value)


def test_a_refusal_tells_app_bridge_to_try_again_and_nothing_of_the_token() -> None:
    with pytest.raises(InvalidSessionToken) as refused:
        verified(made(OLD))
    assert refused.value.headers == {"X-Shopify-Retry-Invalid-Session-Request": "1"}
    assert made(OLD)[:20] not in repr(refused.value) + refused.value.detail
