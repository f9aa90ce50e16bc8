"""Rows into jobs: judged one by one, stored in chunks, each row one job however often it is sent.

A row is known by (batch, source, number), noted in the transaction that makes its job. What a chunk
stored stays when the upload breaks off, and sending everything again adds only what is missing.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from chassis.kernel import canonical, errors

CHUNK_ROWS = 500
CHUNK_BYTES = 1024 * 1024
MAX_ARGS_BYTES = 256 * 1024
# How many refused rows one answer lists; the others are counted.
MAX_LISTED = 1000
MAX_FLAWS = 20
MAX_DETAIL = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A row as it was read. With a `flaw` the rest means nothing."""

    line: int
    size: int
    args: Mapping[str, Any] = field(default_factory=dict)
    shop: str | None = None
    priority: int | None = None
    run_at: datetime | None = None
    tags: Sequence[str] | None = None
    flaw: str | None = None

    def digest(self) -> bytes:
        """Equal for equal content, whatever the batch's defaults say."""
        said = [
            dict(self.args),
            self.shop,
            self.priority,
            self.run_at.isoformat() if self.run_at else None,
            list(self.tags) if self.tags is not None else None,
        ]
        return bytes.fromhex(canonical.fingerprint(said))


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts rows from 0 without the header; `item.args` have the defaults in them."""

    number: int
    digest: bytes
    item: Item


@dataclass(frozen=True, slots=True)
class Target:
    """What an upload must know of its batch."""

    id: UUID
    kind: str
    shop: str | None
    default_args: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Upload:
    """Rows before `offset` are counted and passed over; `shop` is the caller's own."""

    target: Target
    source: str
    offset: int
    shop: str | None


class Fate(StrEnum):
    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "row_conflict"


@dataclass(frozen=True, slots=True)
class Refused:
    number: int
    line: int
    detail: str


@dataclass(slots=True)
class Receipt:
    """What became of an upload's rows. `rows` counts all of them, the skipped ones too."""

    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
    rows: int = 0
    listed: list[Refused] = field(default_factory=list)

    def refuse(self, row: Refused) -> None:
        self.refused += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(row)


class RowStore(Protocol):
    async def target(self, batch_id: UUID) -> Target | None: ...

    async def put(
        self, batch_id: UUID, source: str, rows: Sequence[Row], refused: Sequence[Refused]
    ) -> Sequence[Fate]:
        """One transaction: the jobs of new rows, the rows, the batch's total, the refused rows.
        Conflict `batch_closed` when the batch takes no more."""
        ...

    async def compare(self, batch_id: UUID, source: str, rows: Sequence[Row]) -> Sequence[Fate]:
        """What `put` would say, storing nothing."""
        ...


# Why these args do not fit the kind; None when they do, or when nobody here knows the kind.
ArgsFlaw = Callable[[str, Mapping[str, Any]], str | None]
Items = AsyncIterator[Item]


@dataclass(frozen=True, slots=True)
class Chunk:
    rows: Sequence[Row]
    refused: Sequence[Refused]


class Uploads:
    def __init__(self, *, rows: RowStore, args_flaw: ArgsFlaw) -> None:
        self._rows = rows
        self._args_flaw = args_flaw

    async def target(self, batch_id: UUID, *, shop: str | None) -> Target:
        target = await self._rows.target(batch_id)
        if target is None or (shop is not None and target.shop != shop):
            raise errors.NotFound("there is no such batch")
        return target

    async def receive(self, upload: Upload, items: Items) -> Receipt:
        """Store what is good, chunk by chunk."""
        receipt = Receipt()
        async with aclosing(self._chunks(upload, items, receipt)) as chunks:
            async for chunk in chunks:
                fates = await self._rows.put(
                    upload.target.id, upload.source, chunk.rows, chunk.refused
                )
                _enter(receipt, chunk, fates)
        return receipt

    async def inspect(self, upload: Upload, items: Items) -> None:
        """Invalid when `receive` would refuse a row of these; stores nothing."""
        receipt = Receipt()
        async with aclosing(self._chunks(upload, items, receipt)) as chunks:
            async for chunk in chunks:
                fates = await self._rows.compare(upload.target.id, upload.source, chunk.rows)
                _enter(receipt, chunk, fates)
        if receipt.refused:
            flaws = [
                errors.Flaw(f"/{row.number}", f"line {row.line}: {row.detail}")
                for row in receipt.listed[:MAX_FLAWS]
            ]
            raise errors.Invalid(f"{receipt.refused} rows are wrong; none was taken", flaws=flaws)

    async def _chunks(
        self, upload: Upload, items: Items, receipt: Receipt
    ) -> AsyncGenerator[Chunk, None]:
        rows: list[Row] = []
        refused: list[Refused] = []
        size = 0
        async for item in items:
            number = receipt.rows
            receipt.rows += 1
            if number < upload.offset:
                continue
            judged = self._judge(upload, number, item)
            if isinstance(judged, Row):
                rows.append(judged)
            else:
                refused.append(judged)
            size += item.size
            if len(rows) + len(refused) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield Chunk(rows, refused)
                rows, refused, size = [], [], 0
        if rows or refused:
            yield Chunk(rows, refused)

    def _judge(self, upload: Upload, number: int, item: Item) -> Row | Refused:
        target = upload.target
        args = {**target.default_args, **item.args}
        flaw = (
            item.flaw or _limits_flaw(args, item, upload.shop) or self._args_flaw(target.kind, args)
        )
        if flaw is not None:
            return Refused(number, item.line, flaw[:MAX_DETAIL])
        complete = Item(
            line=item.line,
            size=item.size,
            args=args,
            shop=item.shop,
            priority=item.priority,
            run_at=item.run_at,
            tags=item.tags,
        )
        return Row(number, item.digest(), complete)


def _limits_flaw(args: Mapping[str, Any], item: Item, shop: str | None) -> str | None:
    if shop is not None and item.shop not in (None, shop):
        return "shop: the key belongs to another shop"
    if len(json.dumps(args, ensure_ascii=False).encode()) > MAX_ARGS_BYTES:
        return f"args: over {MAX_ARGS_BYTES} bytes with the defaults"
    return None


def _enter(receipt: Receipt, chunk: Chunk, fates: Sequence[Fate]) -> None:
    wrong = list(chunk.refused)
    for row, fate in zip(chunk.rows, fates, strict=True):
        match fate:
            case Fate.ACCEPTED:
                receipt.accepted += 1
            case Fate.DUPLICATE:
                receipt.duplicates += 1
            case Fate.CONFLICT:
                wrong.append(Refused(row.number, row.item.line, str(fate)))
    for refused in sorted(wrong, key=lambda one: one.number):
        receipt.refuse(refused)
