"""How many segments a text message takes: what carriers count, pace and bill.

GSM 03.38 packs 160 septets into one message, or 153 into each part of a longer one; a character
of the extension table takes two. One character outside both tables makes the whole text UCS-2: 70
UTF-16 units, or 67 a part. No character is cut in two by the end of a part.

Of the Greek capitals only ΔΦΓΛΩΠΨΣΘΞ are in the table: the others look Latin and are not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION = frozenset("\f^{}\\[~]|€")


class Encoding(StrEnum):
    GSM7 = "gsm7"
    UCS2 = "ucs2"


ALONE = {Encoding.GSM7: 160, Encoding.UCS2: 70}
IN_PARTS = {Encoding.GSM7: 153, Encoding.UCS2: 67}


@dataclass(frozen=True, slots=True)
class Size:
    """`units` are septets or UTF-16 code units. An empty text has no segment."""

    encoding: Encoding
    units: int
    segments: int


def measure(text: str) -> Size:
    encoding = Encoding.GSM7 if BASIC.union(EXTENSION).issuperset(text) else Encoding.UCS2
    widths = [_width(character, encoding) for character in text]
    units = sum(widths)
    if units <= ALONE[encoding]:
        return Size(encoding, units, 1 if units else 0)
    return Size(encoding, units, _parts(widths, IN_PARTS[encoding]))


def _width(character: str, encoding: Encoding) -> int:
    if encoding is Encoding.GSM7:
        return 2 if character in EXTENSION else 1
    return 2 if ord(character) > 0xFFFF else 1


def _parts(widths: Iterable[int], room: int) -> int:
    parts, used = 1, 0
    for width in widths:
        if used + width > room:
            parts, used = parts + 1, 0
        used += width
    return parts
