"""A cursor is the position of the last row, or refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from chassis.web import cursor

POSITION = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
    | st.integers(0, 2**53)
)


@given(POSITION)
def test_the_position_comes_back(position: list[Any]) -> None:
    text = cursor.encode(position)
    assert cursor.decode(text, parts=len(position)) == position
    assert text.isascii()
    assert "=" not in text


def test_no_cursor_is_the_first_page() -> None:
    assert cursor.decode(None, parts=2) is None


@given(st.text(max_size=30))
def test_any_other_text_is_refused_as_bad_input(text: str) -> None:
    try:
        position = cursor.decode(text, parts=2)
    except errors.Invalid as fault:
        assert [flaw.pointer for flaw in fault.flaws] == ["/cursor"]  # noqa: PT017
    else:
        assert position is not None
        assert len(position) == 2


@pytest.mark.parametrize(
    "text", ["", "ω", "AAAA", "bnVsbA", cursor.encode([1]), cursor.encode(["\x00", 1])]
)
def test_not_a_cursor_of_ours(text: str) -> None:
    with pytest.raises(errors.Invalid):
        cursor.decode(text, parts=2)
