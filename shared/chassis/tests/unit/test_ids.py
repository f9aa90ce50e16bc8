"""Ids: fresh ones sort, derived ones repeat, callers' ones are told from ours."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import ids

PARTS = st.lists(st.text(), max_size=4)


def test_new_ids_are_version_7_and_sort_by_the_time_they_were_made() -> None:
    made = [ids.new_id() for _ in range(1000)]
    assert {one.version for one in made} == {7}
    assert len(set(made)) == 1000
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)


@given(st.text(), PARTS, st.text(), PARTS)
def test_derived_ids_are_equal_exactly_when_purpose_and_parts_are(
    purpose: str, parts: list[str], other_purpose: str, other_parts: list[str]
) -> None:
    one, other = ids.derived_id(purpose, *parts), ids.derived_id(other_purpose, *other_parts)
    assert (one == other) == ([purpose, *parts] == [other_purpose, *other_parts])
    assert one.version == 5


def test_derived_ids_are_the_same_for_ever() -> None:
    assert str(ids.derived_id("on_complete", "x")) == "5b2a271f-8208-56da-9abc-b9c3b3bd346b"


@given(st.uuids())
def test_the_canonical_form_is_read_in_either_case(given_id: uuid.UUID) -> None:
    assert ids.parse_id(str(given_id)) == given_id
    assert ids.parse_id(str(given_id).upper()) == given_id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6f1c7f0e4a585f529d0a9b5b2a3c8d11",
        "6f1c7f0e4a585f529d0a9b5b2a3c8d11----",
        "{{6f1c7f0e4a585f529d0a9b5b2a3c8d11}}",
        "{6f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d11}",
        "urn:uuid:6f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d11",
        "6f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d1\n",
        "6f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d11\n",
        "6f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8_11",
        "٦f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d11",
        "gf1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d11",
    ],
)
def test_every_other_form_is_no_id(text: str) -> None:
    assert ids.parse_id(text) is None


def test_callers_bring_version_4_or_7_and_never_5() -> None:
    assert ids.is_callers(uuid.uuid4())
    assert ids.is_callers(ids.new_id())
    assert not ids.is_callers(ids.derived_id("schedule", "fire"))
    assert not ids.is_callers(uuid.UUID(int=0))
