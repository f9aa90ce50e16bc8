"""Ids, tokens and what a PUT may change."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import crypto
from chassis.kernel import errors
from session_service.core import record
from session_service.core.sealing import Vault

SHOP = "a-b.myshopify.com"
VAULT = Vault(crypto.Keyring(f"k1:{crypto.new_key()}"))

TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MS = st.none() | st.integers(0, 8_640_000_000_000_000)
KNOWN = {
    "state": st.none() | TEXT,
    "isOnline": st.booleans(),
    "scope": st.none() | TEXT,
    "accessToken": st.none() | TEXT,
    "refreshToken": st.none() | TEXT,
    "expires": MS,
    "refreshTokenExpires": MS,
    "onlineAccessInfo": st.none() | st.dictionaries(TEXT, VALUES, max_size=3),
}
UNKNOWN = st.dictionaries(TEXT.filter(lambda name: name not in KNOWN), VALUES, max_size=4)
DOCUMENTS = st.tuples(
    UNKNOWN,
    st.fixed_dictionaries({"id": TEXT, "shop": st.just(SHOP)}, optional=KNOWN),
).map(lambda pair: {**pair[0], **pair[1]})


def session(**more: Any) -> record.ShopifySession:
    return record.from_document({"id": f"offline_{SHOP}", "shop": SHOP, **more})


@given(DOCUMENTS)
def test_whatever_is_sealed_comes_back_to_the_letter(document: dict[str, Any]) -> None:
    sealed = VAULT.seal(record.from_document(document))
    shown = VAULT.open(sealed).document(with_secrets=True)
    assert json.dumps(shown, sort_keys=True) == json.dumps(document, sort_keys=True)


@given(DOCUMENTS)
def test_secrets_are_in_no_repr_and_in_no_masked_document(document: dict[str, Any]) -> None:
    marked = document | {"accessToken": "SECRET1", "refreshToken": "SECRET2"}
    opened = record.from_document(marked)
    assert "SECRET" not in repr(opened) + repr(VAULT.seal(opened))
    assert "SECRET" not in json.dumps(opened.document(with_secrets=False))


@pytest.mark.parametrize(
    ("session_id", "shop"),
    [
        ("offline_a-b.myshopify.com", SHOP),
        ("offline_A-B.myshopify.com", SHOP),
        ("offline_anything at all", "anything at all"),
        ("a-b.myshopify.com_42", SHOP),
        ("a-b.myshopify.com_42_x", SHOP),
        ("a-b.myshopify.com_\n", SHOP),
        ("shop.example.org_42", "shop.example.org"),
        ("6f1c7f0e-4a58-4f52-9d0a-9b5b2a3c8d11", None),
        ("a-b.myshopify.com", None),
        ("user_42", None),
        ("shop.example.org_x", None),
        ("ελιά_42", None),
    ],
)
def test_the_shop_that_an_id_names(session_id: str, shop: str | None) -> None:
    assert record.shop_named_by(session_id) == shop


def test_an_id_of_another_shop_is_refused() -> None:
    with pytest.raises(errors.Invalid) as refused:
        record.from_document({"id": f"offline_{SHOP}", "shop": "c.myshopify.com"})
    assert [flaw.pointer for flaw in refused.value.flaws] == ["/shop"]


@pytest.mark.parametrize(
    ("info", "user_id"),
    [
        ({"associated_user": {"id": 902541635}}, 902541635),
        ({"associated_user": {"id": "902541635"}}, 902541635),
        ({"associated_user": {"id": True}}, None),
        ({"associated_user": {"id": 2**63}}, None),
        ({"associated_user": {"id": "٣"}}, None),
        ({"associated_user": [1]}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_user_of_an_online_session(info: Any, user_id: int | None) -> None:
    assert session(onlineAccessInfo=info).user_id == user_id


def test_a_new_pair_remembers_the_refresh_token_before_it() -> None:
    old = session(accessToken="a1", refreshToken="r1")
    new = record.succeed(old, session(accessToken="a2", refreshToken="r2"), keeps_tokens=False)
    assert (new.tokens.access, new.tokens.refresh, new.previous_refresh) == ("a2", "r2", "r1")
    same = record.succeed(
        new, session(accessToken="a2", refreshToken="r2", state="x"), keeps_tokens=False
    )
    assert same.previous_refresh == "r1"
    none = record.succeed(new, session(), keeps_tokens=False)
    assert (none.tokens.refresh, none.previous_refresh) == (None, "r2")


def test_who_may_not_see_tokens_leaves_them_with_their_dates() -> None:
    old = session(accessToken="a1", refreshToken="r1", expires=5, refreshTokenExpires=6)
    put = session(accessToken="evil", expires=1, scope="s2", extra=1)
    merged = record.succeed(old, put, keeps_tokens=True)
    assert merged.tokens == old.tokens
    assert (merged.scope, merged.rest["extra"]) == ("s2", 1)


def test_who_may_not_see_tokens_may_bring_the_first() -> None:
    for before in (None, session(state="installing")):
        merged = record.succeed(before, session(accessToken="a1"), keeps_tokens=True)
        assert merged.tokens.access == "a1"


def test_true_is_not_one_when_looking_for_a_difference() -> None:
    assert not record.is_same(session(extra=True), session(extra=1))
    assert record.is_same(session(extra={"a": 1, "b": 2}), session(extra={"b": 2, "a": 1}))


@pytest.mark.parametrize(
    ("members", "ends_ms"),
    [
        ({}, None),
        ({"expires": 5}, 5),
        ({"expires": 5, "refreshToken": "r"}, None),
        ({"expires": 5, "refreshToken": "r", "refreshTokenExpires": 9}, 9),
        ({"expires": 9, "refreshToken": "r", "refreshTokenExpires": 5}, 9),
        ({"refreshToken": "r", "refreshTokenExpires": 9}, None),
        ({"isOnline": True, "expires": 5, "refreshToken": "r"}, 5),
    ],
)
def test_when_the_last_token_ends(members: dict[str, Any], ends_ms: int | None) -> None:
    assert session(**members).ends_ms == ends_ms
