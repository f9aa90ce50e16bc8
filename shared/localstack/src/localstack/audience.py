"""Who the sample's file means, read by ourselves: what a campaign's outcome is held against."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

E164 = re.compile(r"\+[1-9][0-9]{7,14}")
# Calling codes that no country has: such a number has the right form and reaches nobody.
UNASSIGNED = ("+999",)
SHORTEST = 10
ROW_MAX_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Audience:
    """`recipients` are the numbers of rows without fault, each once; `rows` counts all rows."""

    recipients: frozenset[str]
    rows: int


def read(path: Path) -> Audience:
    numbers: list[str] = []
    rows = 0
    records = _records(path)
    columns = len(_fields(next(records)) or ())
    for record in records:
        rows += 1
        fields = _fields(record)
        if fields is not None and len(fields) == columns and is_reachable(fields[0]):
            numbers.append(fields[0])
    recipients = frozenset(numbers)
    assert len(recipients) == len(numbers), "the sample names a recipient twice"
    return Audience(recipients, rows)


def is_reachable(number: str) -> bool:
    return (
        E164.fullmatch(number) is not None
        and len(number) >= SHORTEST
        and not number.startswith(UNASSIGNED)
    )


def _records(path: Path) -> Iterator[bytes]:
    """A record ends with a line that leaves no quote open."""
    held = b""
    for line in path.read_bytes().splitlines(keepends=True):
        held += line
        if held.count(b'"') % 2 == 0:
            yield held
            held = b""
    if held:
        yield held


def _fields(record: bytes) -> list[str] | None:
    """None for what no reader of CSV should guess at."""
    if len(record) > ROW_MAX_BYTES:
        return None
    try:
        (fields,) = csv.reader([record.decode().rstrip("\r\n")], strict=True)
    except (UnicodeDecodeError, csv.Error, ValueError):
        return None
    return fields
