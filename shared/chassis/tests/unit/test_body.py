"""What callers send: kept as it is, or refused with the place named."""

import contextlib
import json
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from chassis.web import body, problems

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(body.INT_MIN, body.INT_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


class Thing(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    name: str = ""
    count: int = 0
    any: Any = None


def refused(raw: bytes) -> errors.Fault:
    with pytest.raises(errors.Fault) as caught:
        body.parse(raw, Thing)
    fault = caught.value
    assert problems.response(fault).status in (400, 422), "every refusal becomes an answer"
    return fault


@given(JSON, st.booleans())
def test_every_value_that_can_be_kept_is_read_as_it_was_said(value: Any, escaped: bool) -> None:
    raw = json.dumps({"any": value}, ensure_ascii=escaped).encode()
    assert body.parse(raw, Thing).any == value


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_and_nothing_else(raw: bytes) -> None:
    with contextlib.suppress(errors.Malformed, errors.Invalid):
        body.parse(raw, Thing)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        '{"name":"é"}'.encode("latin-1"),
        '{"name":"é"}'.encode("utf-16"),
        b'{"any":NaN}',
        b'{"any":Infinity}',
        b'{"any":01}',
        b"{'any':1}",
        b'{"any":1,}',
        b'{"any":"\x00"}',
        b'{"any":1,"any":2}',
        b'{"any":' + b"9" * 5000 + b"}",
    ],
)
def test_bytes_that_are_not_one_json_value_are_malformed(raw: bytes) -> None:
    assert isinstance(refused(raw), errors.Malformed)


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b'{"any":18446744073709551616}', "/any"),
        (b'{"any":[0,-9223372036854775809]}', "/any/1"),
        (b'{"any":1e999}', "/any"),
        (b'{"any":{"a":-1E+400}}', "/any/a"),
        (b'{"any":"a\\u0000"}', "/any"),
        (b'{"any":{"\\u0000":1}}', "/any"),
        (b'{"any":["\\ud800"]}', "/any/0"),
        (b'{"any":"\\udc00\\ud800"}', "/any"),
        (b'{"any":{"a/b":{"~":"\\u0000"}}}', "/any/a~1b/~0"),
    ],
)
def test_what_no_store_keeps_faithfully_is_refused_where_it_stands(
    raw: bytes, pointer: str
) -> None:
    fault = refused(raw)
    assert isinstance(fault, errors.Invalid)
    assert [flaw.pointer for flaw in fault.flaws] == [pointer]


def test_half_a_pair_in_a_name_still_becomes_an_answer() -> None:
    fault = refused(b'{"any":{"\\ud800":"\\ud800"}}')
    answer = problems.response(fault)
    assert answer.body is not None
    assert [one["pointer"] for one in json.loads(bytes(answer.body))["errors"]] == [
        "/any",
        "/any/\ud800",
    ]


@pytest.mark.parametrize("raw", [b"18446744073709551615", b"-9223372036854775808", b"1e308"])
def test_the_ends_of_the_ranges_are_still_good(raw: bytes) -> None:
    assert body.parse(b'{"any":%b}' % raw, Thing).any == json.loads(raw)


@pytest.mark.parametrize("levels", [70, 150, 250, 100_000])
def test_nesting_has_an_end(levels: int) -> None:
    for raw in (b'{"any":' + b"[" * levels + b"]" * levels + b"}", b"[" * levels):
        fault = refused(raw)
        assert isinstance(fault, errors.Invalid | errors.Malformed)
    assert isinstance(refused(b'{"any":' + b'{"a":' * levels + b"1" + b"}" * (levels + 1)),
                      errors.Invalid)  # fmt: skip


def test_deep_nesting_after_half_a_pair_is_refused_and_breaks_nothing() -> None:
    assert refused(b'{"any":"\\ud800","b":' + b"[" * 100_000).code == "malformed"


@pytest.mark.parametrize("raw", [b"[%b]" % b",".join([b"{}"] * 200), b'["%b"]' % (b"[" * 100)])
def test_many_values_beside_each_other_are_not_deep(raw: bytes) -> None:
    assert body.parse_value(raw) == json.loads(raw)


def test_the_last_good_level_is_the_sixty_fourth() -> None:
    good = b"[" * 64 + b"1" + b"]" * 64
    assert body.parse_value(good) == json.loads(good)
    assert isinstance(refused(b'{"any":' + good + b"}"), errors.Invalid)


@pytest.mark.parametrize("raw", [b'{"any":"a+1E999"}', b'{"any":"1234567890123456789"}'])
def test_text_that_looks_like_a_number_is_text(raw: bytes) -> None:
    assert body.parse(raw, Thing).any == json.loads(raw)["any"]


def test_sixty_levels_are_fine() -> None:
    body.parse(b'{"any":' + b"[" * 60 + b"]" * 60 + b"}", Thing)


@pytest.mark.parametrize(
    ("raw", "pointer", "detail"),
    [
        (b'{"nmae":"x"}', "/nmae", "unknown member"),
        (b'{"count":"1"}', "/count", "valid integer"),
        (b'{"count":1.5}', "/count", "valid integer"),
        (b'{"count":true}', "/count", "valid integer"),
        (b'{"name":null}', "/name", "valid string"),
        (b"[]", "", "object"),
    ],
)
def test_wrong_values_are_named_and_never_repeated(raw: bytes, pointer: str, detail: str) -> None:
    fault = refused(raw)
    assert fault.flaws[0].pointer == pointer
    assert detail in fault.flaws[0].detail


def test_a_secret_in_a_wrong_place_is_not_told_back() -> None:
    fault = refused(b'{"count":"shpat_0123456789"}')
    assert "shpat" not in fault.detail + str(fault.flaws)


def test_all_wrong_places_are_told_at_once() -> None:
    fault = refused(b'{"name":1,"count":"x","other":1}')
    assert {flaw.pointer for flaw in fault.flaws} == {"/name", "/count", "/other"}


def test_answers_say_which_road_and_backend_made_them() -> None:
    answer = body.respond({"a": 1}, status=202, road="spool", backend="postgres", degraded="redis")
    assert answer.status == 202
    assert answer.headers["Mainstay-Road"] == "spool"
    assert answer.headers["Mainstay-Backend"] == "postgres"
    assert answer.headers["Degraded"] == "redis"
    assert "Degraded" not in body.respond({}).headers


def test_what_was_kept_can_be_answered() -> None:
    """jsonb gives 1e300 back as an integer of 301 digits."""
    answer = body.respond({"value": 10**300})
    assert json.loads(bytes(answer.body or b"")) == {"value": 10**300}


def test_models_in_answers_are_written_as_json() -> None:
    answer = body.respond({"items": [Thing(name="ω")]})
    assert answer.body == '{"items":[{"name":"ω","count":0,"any":null}]}'.encode()
