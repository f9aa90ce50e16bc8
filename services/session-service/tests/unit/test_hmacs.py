"""Which queries count as Shopify's own."""

import hashlib
import hmac
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from session_service.core import hmacs

SECRET = "the-secret-of-the-app-in-these-tests"
OLD = "another-secret-than-that-of-the-app"
NOW_S = 1_764_066_000.0
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda name: not name.endswith("[]") and name not in (*hmacs.SINGLE, "signature")
)


def signature(text: str, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def callback(secret: str = SECRET, **more: str) -> str:
    said = {
        "code": "0907a61c",
        "host": "YWRtaW4uc2hvcGlmeS5jb20vc3RvcmUvb2xpdmVz",
        "shop": "olives.myshopify.com",
        "state": "a" * 64,
        "timestamp": f"{NOW_S:.0f}",
        **more,
    }
    signed = signature("&".join(f"{name}={said[name]}" for name in sorted(said)), secret)
    return urlencode({**said, "hmac": signed})


def judge(query: str, *secrets: str, now_s: float = NOW_S) -> None:
    hmacs.parse(query).require_signed(secrets or (SECRET,), now_s=now_s)


def test_the_published_example_is_taken() -> None:
    hmacs.parse(
        "code=0907a61c0c8d55e99db179b68161bc00&hmac=700e2dadb827fcc8609e9d5ce208b2e9cdaab9df07390d2"
        "cbca10d7c328fc4bf&shop=some-shop.myshopify.com&state=0.6784241404160823"
        "&timestamp=1337178173"
    ).require_signed(["hush"], now_s=1337178173.0)


def test_a_callback_counts_under_the_secret_of_today_and_the_one_before() -> None:
    judge(callback(), SECRET, OLD)
    judge(callback(OLD), SECRET, OLD)
    with pytest.raises(hmacs.InvalidHmac):
        judge(callback(OLD), SECRET)


@pytest.mark.parametrize("name", ["code", "host", "shop", "state", "timestamp"])
def test_every_parameter_is_signed(name: str) -> None:
    query = callback()
    value = str(hmacs.parse(query).get(name))
    with pytest.raises(hmacs.InvalidHmac):
        judge(query.replace(f"{name}={value}", f"{name}={value}1"))


def test_a_parameter_that_was_added_or_taken_away_breaks_the_signature() -> None:
    with pytest.raises(hmacs.InvalidHmac):
        judge(callback() + "&locale=el")
    with pytest.raises(hmacs.InvalidHmac):
        judge("&".join(part for part in callback().split("&") if not part.startswith("host=")))


def test_the_signature_of_another_kind_is_no_part_of_what_is_signed() -> None:
    judge(callback() + "&signature=anything")


@pytest.mark.parametrize("name", hmacs.SINGLE)
def test_what_must_be_one_is_refused_twice(name: str) -> None:
    with pytest.raises(errors.Invalid, match=f"{name} is given twice"):
        hmacs.parse(f"{callback()}&{name}=a&{name}=a")


@pytest.mark.parametrize("age_s", [-91, 91, 86_400])
def test_a_query_is_good_for_ninety_seconds_by_both_clocks(age_s: int) -> None:
    judge(callback(), now_s=NOW_S + (89 if age_s > 0 else -89))
    with pytest.raises(hmacs.InvalidHmac, match="within the last 90 seconds"):
        judge(callback(), now_s=NOW_S + age_s)


@pytest.mark.parametrize("stamp", ["", "now", "1.5e9", "-1", "9" * 30, "１７６４０６６０００"])
def test_a_time_that_is_none_is_refused_whoever_signed_it(stamp: str) -> None:
    said = {"timestamp": stamp}
    signed = signature(f"timestamp={quote(stamp, safe='')}")
    with pytest.raises(hmacs.InvalidHmac):
        judge(urlencode({**said, "hmac": signed}))


@pytest.mark.parametrize("given", ["", "0" * 64, "é" * 64, "\ud83d", "zz", "A" * 5000])
def test_any_text_may_stand_in_for_a_signature(given: str) -> None:
    assert not hmacs.is_signed([("shop", "a")], given, [SECRET])


@pytest.mark.parametrize("query", ["a=%ff", "shop=%C3%28", "&".join("a=1" for _ in range(60))])
def test_what_is_no_query_is_malformed(query: str) -> None:
    with pytest.raises(errors.Malformed):
        hmacs.parse(query)


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=8, unique_by=lambda pair: pair[0]))
def test_either_form_counts_for_any_text(pairs: list[tuple[str, str]]) -> None:
    """Written down anew here, so that a mistake there shows."""
    pieces = sorted(pairs, key=lambda pair: pair[0])
    safe = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-._"

    def escape(text: str) -> str:
        return "".join(
            char if char in safe else "".join(f"%{byte:02X}" for byte in char.encode())
            for char in text
        )

    def keep(text: str, *, key: bool) -> str:
        kept = text.replace("%", "%25").replace("&", "%26")
        return kept.replace("=", "%3D") if key else kept

    one = "&".join(f"{escape(name)}={escape(value)}" for name, value in pieces)
    other = "&".join(
        sorted(f"{keep(name, key=True)}={keep(value, key=False)}" for name, value in pairs)
    )
    for text in (one, other):
        assert hmacs.is_signed([*pairs, ("hmac", "x")], signature(text), [OLD, SECRET])
    assert hmacs.parse(urlencode(pairs)).pairs == tuple(pairs)


def test_lists_are_signed_as_one_value_in_the_older_form() -> None:
    pairs = [("ids[]", "1"), ("shop", "a"), ("ids[]", "2")]
    assert hmacs.is_signed(pairs, signature('ids=["1", "2"]&shop=a'), [SECRET])
