"""Phone numbers as people type them, in E.164."""

import re

import phonenumbers
from phonenumbers import ValidationResult

# Letters would be read as keypad digits, and an extension would be dropped in silence.
_TYPED = re.compile(r"[+＋]?[\d\s().\-/\u2010-\u2015\u00a0]{1,40}")
_REASONS: dict[int, str] = {
    ValidationResult.TOO_SHORT: "the number is too short",
    ValidationResult.TOO_LONG: "the number is too long",
    ValidationResult.INVALID_COUNTRY_CODE: "the number has an unknown country code",
}


def to_e164(typed: str) -> str:
    """`+` and country code come first; `00` is taken for `+`. Raises ValueError with a reason."""
    text = typed.strip().removeprefix("\u200e").removeprefix("\u202a")
    if not text:
        raise ValueError("the number is missing")
    if not _TYPED.fullmatch(text):
        raise ValueError("this is no phone number: digits, spaces and ( ) . - / only, + in front")
    if text.startswith("00"):
        text = "+" + text[2:]
    if text[0] not in "+＋":
        raise ValueError("the number needs its country code, e.g. +30 691 234 5678")
    return _checked(text)


def _checked(text: str) -> str:
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException as error:
        if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE:
            raise ValueError("the number has an unknown country code") from None
        raise ValueError("this is no phone number") from None
    if phonenumbers.is_valid_number(number):
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    reason = phonenumbers.is_possible_number_with_reason(number)
    raise ValueError(_REASONS.get(reason, "no phone of its country has such a number"))
