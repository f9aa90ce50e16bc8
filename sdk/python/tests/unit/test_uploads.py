"""Rows as bytes: the format by the name, and what can be read again."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mainstay import uploads


async def stream() -> AsyncIterator[bytes]:
    yield b"a"


class Again:
    def __aiter__(self) -> AsyncIterator[bytes]:
        return stream()


@pytest.mark.parametrize(
    ("rows", "expected", "again"),
    [
        (Path("a.csv"), "csv", True),
        (Path("a.NDJSON"), "ndjson", True),
        (Path("a.jsonl"), "ndjson", True),
        (Path("a.json"), "json", True),
        (Path("a"), "csv", True),
        (b"to\n", "csv", True),
        ([{"args": {}}], "ndjson", True),
        (Again(), "csv", True),
    ],
)
def test_formats(rows: Any, expected: str, again: bool) -> None:
    assert uploads.format_of(rows) == expected
    assert uploads.is_repeatable(rows) is again


async def test_an_iterator_is_used_up_by_the_first_try() -> None:
    rows = stream()
    assert not uploads.is_repeatable(rows)
    assert uploads.format_of(rows) == "csv"
    assert [chunk async for chunk in rows] == [b"a"]


async def whole(rows: Any) -> bytes:
    return b"".join([chunk async for chunk in uploads.chunks_of(rows)])


async def test_everything_arrives(tmp_path: Path) -> None:
    big = b"x" * (uploads.CHUNK_BYTES * 2 + 1)
    file = tmp_path / "rows.csv"
    file.write_bytes(big)
    assert await whole(file) == big
    assert await whole(big) == big
    assert await whole(Again()) == b"a"
    assert await whole([{"args": {"to": "ω"}}, {}]) == '{"args": {"to": "ω"}}\n{}\n'.encode()
    assert await whole(b"") == b""
