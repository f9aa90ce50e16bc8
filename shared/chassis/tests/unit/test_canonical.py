"""A repeat has the same fingerprint, another request another one."""

import json

from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import canonical

FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_the_order_of_members_does_not_count(document: dict[str, object]) -> None:
    turned = dict(reversed(document.items()))
    assert canonical.canonical(turned) == canonical.canonical(document)


@given(JSON)
def test_nothing_is_lost(value: object) -> None:
    assert json.loads(canonical.canonical(value)) == value


@given(JSON)
def test_no_release_says_it_otherwise(value: object) -> None:
    """Fingerprints are kept, so how it is made must not show."""
    said = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical.canonical(value) == said.encode()


@given(FINITE)
def test_numbers_are_as_python_prints_them(number: float) -> None:
    assert canonical.canonical(number) == repr(number).encode()


@given(JSON, JSON)
def test_different_values_have_different_fingerprints(one: object, other: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (canonical.fingerprint(one) == canonical.fingerprint(other)) == same


def test_is_small_utf8() -> None:
    assert canonical.canonical({"b": [1, "ω"], "a": 1.5}) == '{"a":1.5,"b":[1,"ω"]}'.encode()
