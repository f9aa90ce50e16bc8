"""What answers of Shopify's token endpoint mean, and what becomes of a session by them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_service.core import answers, pairs
from session_service.core.answers import Reply, Verdict
from session_service.core.grants import Ask, Way
from session_service.core.record import ShopifySession, Status, Tokens

SHOP = "greek-olives.myshopify.com"
ID = f"offline_{SHOP}"
NOW = 1_800_000_000_000
DEAD = "This request requires an active refresh_token"
REFRESH = Ask(way=Way.REFRESH, body={}, refresh="shprt_0")
GRANTED = {
    "access_token": "shpat_1",
    "scope": "write_products",
    "expires_in": 3600,
    "refresh_token": "shprt_1",
    "refresh_token_expires_in": 7_776_000,
}


def reply(status: int, body: Any) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status=status, body=raw)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, GRANTED, Verdict.GRANTED),
        (200, {"access_token": ""}, Verdict.TRANSIENT),
        (200, {"access_token": 7}, Verdict.TRANSIENT),
        (200, b"<html>", Verdict.TRANSIENT),
        (200, b"", Verdict.TRANSIENT),
        (200, b'{"access_token": "a\\u0000"}', Verdict.TRANSIENT),
        (200, b'{"access_token": "\\ud800"}', Verdict.TRANSIENT),
        (401, {"error": "invalid_request", "error_description": DEAD}, Verdict.DEAD),
        (400, {"error": "invalid_grant"}, Verdict.DEAD),
        (401, {"error": "invalid_grant"}, Verdict.DEAD),
        (400, {"error": "invalid_subject_token"}, Verdict.SUBJECT),
        (400, {"error": "invalid_client"}, Verdict.CLIENT),
        (401, {"error": "invalid_client"}, Verdict.CLIENT),
        (400, {"error": "invalid_request"}, Verdict.REFUSED),
        (400, {"error": ["invalid_grant"]}, Verdict.REFUSED),
        (400, b"<html>Oauth error invalid_grant</html>", Verdict.REFUSED),
        (302, b"", Verdict.REFUSED),
        (402, b"", Verdict.AWAY),
        (423, b"", Verdict.AWAY),
        (403, b"", Verdict.GONE),
        (404, b"<html>", Verdict.GONE),
        (429, b"", Verdict.TRANSIENT),
        (500, {"error": "invalid_grant"}, Verdict.TRANSIENT),
        (520, b"<html>", Verdict.TRANSIENT),
    ],
)
def test_every_answer_has_a_meaning(status: int, body: Any, verdict: Verdict) -> None:
    assert answers.read(reply(status, body)).verdict is verdict


@given(st.integers(100, 599), st.binary(max_size=200))
def test_no_answer_is_too_strange(status: int, body: bytes) -> None:
    answer = answers.read(Reply(status=status, body=body))
    assert answer.said.isprintable()


def test_what_is_quoted_of_a_page_holds_no_secret() -> None:
    body = b"<p>Oauth error app_not_installed</p><i>shpat_0123456789abcdef eyJhbGciOi.J9.x</i>"
    said = answers.read(reply(400, body)).said
    assert said.startswith("400 Oauth error app_not_installed")
    assert "shpat_0" not in said
    assert "eyJ" not in said
    assert len(answers.quote(b"oh no " * 1000)) <= answers.QUOTED


def held(**more: Any) -> ShopifySession:
    tokens = Tokens(
        access="shpat_0", refresh="shprt_0", expires_ms=NOW, refresh_expires_ms=NOW + 9_000_000
    )
    known: dict[str, Any] = {
        "id": ID,
        "shop": SHOP,
        "is_online": False,
        "user_id": None,
        "scope": "write_products",
        "tokens": tokens,
        "rest": {"id": ID, "shop": SHOP, "mine": 1},
        "status": Status.REAUTH_REQUIRED,
    }
    return ShopifySession(**(known | more))


def after(document: dict[str, Any], old: ShopifySession | None, ask: Ask = REFRESH) -> Any:
    return pairs.granted(ask, old, document, session_id=ID, shop=SHOP, state="", sent_ms=NOW)


def test_a_whole_answer_replaces_the_pair_and_nothing_else() -> None:
    new = after(GRANTED, held())
    assert new.tokens == Tokens(
        access="shpat_1",
        refresh="shprt_1",
        expires_ms=NOW + 3_600_000,
        refresh_expires_ms=NOW + 7_776_000_000,
    )
    assert (new.previous_refresh, new.status, new.rest) == ("shprt_0", "active", held().rest)


@pytest.mark.parametrize(
    "name", ["scope", "expires_in", "refresh_token", "refresh_token_expires_in"]
)
def test_whatever_is_lacking_is_noticed_and_never_erased(name: str) -> None:
    document = {key: value for key, value in GRANTED.items() if key != name}
    assert pairs.lacks(REFRESH, held(), document)
    new = after(document, held())
    assert new.scope == "write_products"
    assert new.tokens.refresh in ("shprt_0", "shprt_1")
    assert new.tokens.expires_ms == NOW + 3_600_000
    assert new.tokens.refresh_expires_ms in (NOW + 9_000_000, NOW + 7_776_000_000)
    assert not pairs.lacks(REFRESH, held(), GRANTED)


@pytest.mark.parametrize("wrong", [None, "", "soon", -1, 0, float("nan"), 1e300, [], {}])
def test_a_life_that_is_none_is_lacking(wrong: Any) -> None:
    document = GRANTED | {"expires_in": wrong, "refresh_token_expires_in": wrong}
    assert pairs.lacks(REFRESH, held(), document)
    assert after(document, held()).tokens.expires_ms == NOW + 3_600_000


def test_the_refresh_token_that_worked_is_the_previous_one() -> None:
    old = held(previous_refresh="shprt_before")
    by_previous = Ask(way=Way.REFRESH, body={}, refresh="shprt_before")
    assert after(GRANTED, old, by_previous).previous_refresh == "shprt_before"
    same = after(GRANTED | {"refresh_token": "shprt_0"}, old)
    assert same.previous_refresh == "shprt_before"


def test_a_token_without_an_end_is_taken_for_what_it_is() -> None:
    code = Ask(way=Way.CODE, body={}, is_repeatable=False)
    new = after({"access_token": "shpat_1", "scope": "a"}, None, code)
    assert (new.tokens.expires_ms, new.tokens.refresh, new.ends_ms) == (None, None, None)


def test_nothing_shows_a_secret() -> None:
    shown = repr([reply(200, GRANTED), answers.read(reply(200, GRANTED)), REFRESH, held()])
    assert "shp" not in shown
