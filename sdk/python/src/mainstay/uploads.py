"""Rows of a batch as bytes, opened again for each repeat of an upload."""

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

CHUNK_BYTES = 64 * 1024
Format = Literal["csv", "ndjson", "json"]
CONTENT_TYPES: dict[str, str] = {
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "json": "application/json",
}
Rows = Path | bytes | AsyncIterable[bytes] | Sequence[Mapping[str, Any]]


def is_repeatable(rows: Rows) -> bool:
    """An async *iterator* is used up by the first try; everything else can be read again."""
    return not isinstance(rows, AsyncIterator)


def format_of(rows: Rows) -> Format:
    """By a file's name; a list of items is NDJSON; else CSV."""
    if isinstance(rows, Path):
        by_suffix: dict[str, Format] = {".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json"}
        return by_suffix.get(rows.suffix.lower(), "csv")
    return "csv" if isinstance(rows, bytes | AsyncIterable) else "ndjson"


def chunks_of(rows: Rows) -> AsyncIterator[bytes]:
    if isinstance(rows, Path):
        return _file(rows)
    if isinstance(rows, bytes):
        return _pieces(rows)
    if isinstance(rows, AsyncIterable):
        return aiter(rows)
    return _lines(rows)


async def _file(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()


async def _pieces(whole: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(whole), CHUNK_BYTES):
        yield whole[start : start + CHUNK_BYTES]


async def _lines(items: Sequence[Mapping[str, Any]]) -> AsyncIterator[bytes]:
    for item in items:
        yield json.dumps(item, ensure_ascii=False, allow_nan=False).encode() + b"\n"
