"""Who a message comes from: a number, a short code, or a name."""

import re

_NUMBER = re.compile(r"\+[1-9]\d{4,14}|\d{3,8}")
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 _&.+-]{1,11}")
_SPACING = re.compile(r"[\s().-]")


def checked(sender: str) -> str:
    """A number without its spacing, or the name as it is. Raises ValueError."""
    name, number = sender.strip(), _SPACING.sub("", sender)
    if _NUMBER.fullmatch(number):
        return number
    if _NAME.fullmatch(name):
        return name
    raise ValueError(
        "this is no sender: a number with + and country code, a short code,"
        " or a name of at most 11 Latin letters and digits"
    )
