"""Numbers as people type them, and why others are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketing import phone


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("+306912345678", "+306912345678"),
        ("+30 691 234 5678", "+306912345678"),
        (" 0030 691 234-5678 ", "+306912345678"),
        ("+30.691.234.5678", "+306912345678"),
        ("＋306912345678", "+306912345678"),
        ("\u200e+306912345678", "+306912345678"),
        ("+44 (0)20 7946 0101", "+442079460101"),
        ("+1 (212) 555-0100", "+12125550100"),
        ("+30\u00a06912345678", "+306912345678"),
        ("+30\u2013691\u20112345678", "+306912345678"),
    ],
)
def test_what_people_type(typed: str, number: str) -> None:
    assert phone.to_e164(typed) == number


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ("", "missing"),
        ("   ", "missing"),
        ("6912345678", "country code"),
        ("+3069123", "too short"),
        ("+3069123456789012", "too long"),
        ("(+44) 2079460101", "no phone number"),
        ("+9991234567", "unknown country code"),
        ("+301234567890", "no phone of its country"),
        ("+1-800-FLOWERS", "no phone number"),
        ("+306912345678 ext 5", "no phone number"),
        ("+306912345678;+306912345679", "no phone number"),
        ("+306912345678\u202e", "no phone number"),
        ("tel:+306912345678", "no phone number"),
        ("+" + "1" * 60, "no phone number"),
        ("++306912345678", "no phone number"),
        ("+", "no phone number"),
        ("call me", "no phone number"),
    ],
)
def test_why_it_is_none(typed: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        phone.to_e164(typed)


@given(st.text(max_size=40) | st.from_regex(r"\+?[0-9() .-]{1,20}", fullmatch=True))
def test_any_text_is_a_number_that_stays_itself_or_refused(typed: str) -> None:
    try:
        number = phone.to_e164(typed)
    except ValueError:
        return
    assert number.startswith("+")
    assert number[1:].isascii()
    assert phone.to_e164(number) == number
