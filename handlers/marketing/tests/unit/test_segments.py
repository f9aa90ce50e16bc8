"""What carriers count: GSM 03.38, or UCS-2 as soon as one character needs it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketing import segments
from marketing.segments import Encoding, Size, measure

GSM7, UCS2 = Encoding.GSM7, Encoding.UCS2


def test_the_tables_have_the_size_of_the_standard() -> None:
    assert len(segments.BASIC) == 127, "128 places, one of them is the escape"
    assert len(segments.EXTENSION) == 10
    assert not segments.BASIC & segments.EXTENSION


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", Size(GSM7, 0, 0)),
        ("a", Size(GSM7, 1, 1)),
        ("a" * 160, Size(GSM7, 160, 1)),
        ("a" * 161, Size(GSM7, 161, 2)),
        ("a" * 306, Size(GSM7, 306, 2)),
        ("a" * 307, Size(GSM7, 307, 3)),
        ("€", Size(GSM7, 2, 1)),
        ("€" * 80, Size(GSM7, 160, 1)),
        ("€" * 80 + "a", Size(GSM7, 161, 2)),
        ("a" * 152 + "€" + "a" * 10, Size(GSM7, 164, 2)),
        # The euro does not fit at the end of the first part: 152 + (2 + 151) + 2.
        ("a" * 152 + "€" + "a" * 152, Size(GSM7, 306, 3)),
        ("[]{}\\~^|\f", Size(GSM7, 18, 1)),
        ("ΔΦΓΛΩΠΨΣΘΞ", Size(GSM7, 10, 1)),
        ("line\nbreak\r", Size(GSM7, 11, 1)),
        ("ΑΒ", Size(UCS2, 2, 1)),
        ("Γεια", Size(UCS2, 4, 1)),
        ("ά" * 70, Size(UCS2, 70, 1)),
        ("ά" * 71, Size(UCS2, 71, 2)),
        ("ά" * 134, Size(UCS2, 134, 2)),
        ("ά" * 135, Size(UCS2, 135, 3)),
        ("🌷", Size(UCS2, 2, 1)),
        ("🌷" * 35, Size(UCS2, 70, 1)),
        ("🌷" * 36, Size(UCS2, 72, 2)),
        # 66 units a part: the 34th tulip would be cut in two.
        ("🌷" * 67, Size(UCS2, 134, 3)),
        ("a" * 160 + "ς", Size(UCS2, 161, 3)),
        ("`", Size(UCS2, 1, 1)),
        ("ç", Size(UCS2, 1, 1)),
        ("Ç", Size(GSM7, 1, 1)),
        ("\t", Size(UCS2, 1, 1)),
        ("’", Size(UCS2, 1, 1)),
        ("\u00a0", Size(UCS2, 1, 1)),
    ],
)
def test_sizes(text: str, size: Size) -> None:
    assert measure(text) == size


def test_the_greek_capitals_that_look_latin_are_not_in_the_table() -> None:
    for capital in "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ":
        assert measure(capital).encoding is UCS2
    for latin in "ABEZHIKMNOPTYX":
        assert measure(latin).encoding is GSM7


CHARACTERS = st.sampled_from("aΔ€[ άΑ🌷é\n")


@given(st.text(CHARACTERS, max_size=400))
def test_segments_hold_the_text_and_not_much_more(text: str) -> None:
    size = measure(text)
    alone, part = segments.ALONE[size.encoding], segments.IN_PARTS[size.encoding]
    if size.units <= alone:
        assert size.segments == (1 if text else 0)
    else:
        assert (size.segments - 1) * (part - 1) < size.units <= size.segments * part


@given(st.text(CHARACTERS, max_size=300), CHARACTERS)
def test_a_longer_text_never_needs_less(text: str, more: str) -> None:
    assert measure(text + more).segments >= measure(text).segments
