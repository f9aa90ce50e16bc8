"""`POST /v1/batches/{b}/items`: CSV, NDJSON or a JSON array of any length, read as it comes.

Between two pieces a caller has `IDLE_S`. Only a `strict` upload is bounded: it waits on disk until
every row of it has been judged.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import IO

from aiohttp import web

from chassis.kernel import errors
from chassis.web import body
from chassis.web.app import CALLER
from contracts import jobs as wire
from mainstay import rows
from queue_service.api import keys, paths, render
from queue_service.core import uploads

CSV = "text/csv"
JSON = "application/json"
NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
TYPES = frozenset({CSV, JSON, *NDJSON})

IDLE_S = 30.0
READ_BYTES = 256 * 1024
SPOOL_IN_MEMORY_BYTES = 1024 * 1024
SPOOL_MAX_BYTES = 2 * 1024**3

Pieces = AsyncGenerator[bytes, None]
Items = AsyncGenerator[uploads.Item, None]


async def add(request: web.Request) -> web.Response:
    query = body.read_query(request, wire.ItemsQuery)
    body.require_json(request, TYPES)
    use_case = request.app[keys.UPLOADS]
    shop = request[CALLER].shop
    target = await use_case.target(paths.id_of(request), shop=shop)
    upload = uploads.Upload(target=target, source=query.source, offset=query.offset, shop=shop)
    if query.strict:
        receipt = await _all_or_nothing(request, query, upload)
    else:
        async with aclosing(_items(request, query, _arriving(request))) as items:
            receipt = await use_case.receive(upload, items)
    return render.answer(_told(receipt))


async def _all_or_nothing(
    request: web.Request, query: wire.ItemsQuery, upload: uploads.Upload
) -> uploads.Receipt:
    use_case = request.app[keys.UPLOADS]
    with tempfile.SpooledTemporaryFile(SPOOL_IN_MEMORY_BYTES) as spool:
        async with aclosing(_items(request, query, _spooling(request, spool))) as items:
            await use_case.inspect(upload, items)
        async with aclosing(_items(request, query, _spooled(spool))) as items:
            return await use_case.receive(upload, items)


async def _arriving(request: web.Request) -> Pieces:
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                piece = await request.content.readany()
        except TimeoutError:
            raise errors.Malformed(f"nothing arrived for {IDLE_S:.0f} s") from None
        if not piece:
            return
        yield piece


async def _spooling(request: web.Request, spool: IO[bytes]) -> Pieces:
    size = 0
    async with aclosing(_arriving(request)) as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > SPOOL_MAX_BYTES:
                raise errors.TooLarge(f"a strict upload has at most {SPOOL_MAX_BYTES} bytes")
            await asyncio.to_thread(spool.write, piece)
            yield piece


async def _spooled(spool: IO[bytes]) -> Pieces:
    spool.seek(0)
    while piece := await asyncio.to_thread(spool.read, READ_BYTES):
        yield piece


async def _records(splitter: rows.Splitter, pieces: Pieces) -> AsyncGenerator[rows.Record, None]:
    with _named():
        async with aclosing(pieces):
            async for piece in pieces:
                for record in splitter.feed(piece):
                    yield record
        for record in splitter.end():
            yield record


@contextmanager
def _named() -> Iterator[None]:
    """What is wrong with an upload as a whole, as a fault."""
    try:
        yield
    except rows.Broken as error:
        raise errors.Malformed(str(error)) from None
    except rows.WrongHeader as error:
        raise errors.Invalid(str(error)) from None


def _items(request: web.Request, query: wire.ItemsQuery, pieces: Pieces) -> Items:
    if request.content_type == CSV:
        return _csv_items(_delimiter(query), pieces)
    splitter = rows.ArrayElements() if request.content_type == JSON else rows.Lines()
    return _json_items(splitter, pieces)


def _delimiter(query: wire.ItemsQuery) -> str:
    if not query.delimiter.isascii() or query.delimiter in '"\r\n\x00':
        raise errors.Invalid(
            "not a delimiter", flaws=[errors.Flaw("/delimiter", "give one ASCII character")]
        )
    return query.delimiter


async def _csv_items(delimiter: str, pieces: Pieces) -> Items:
    table = rows.Table(delimiter=delimiter)
    async with aclosing(_records(rows.CsvRecords(delimiter=delimiter), pieces)) as records:
        async for record in records:
            if table.header is None:
                with _named():
                    table.open(record)
                continue
            args, flaw = table.read(record)
            yield uploads.Item(line=record.line, size=len(record.raw), args=args, flaw=flaw)
    if table.header is None:
        raise errors.Invalid("the upload is empty: a CSV begins with its header")


async def _json_items(splitter: rows.Splitter, pieces: Pieces) -> Items:
    async with aclosing(_records(splitter, pieces)) as records:
        async for record in records:
            yield _json_item(record)


def _json_item(record: rows.Record) -> uploads.Item:
    size = len(record.raw)
    if record.flaw is not None:
        return uploads.Item(line=record.line, size=size, flaw=record.flaw)
    try:
        given = body.parse(record.raw, wire.BatchItem)
    except (errors.Malformed, errors.Invalid) as fault:
        return uploads.Item(line=record.line, size=size, flaw=fault.detail)
    return uploads.Item(
        line=record.line,
        size=size,
        args=given.args,
        shop=given.shop,
        priority=given.priority,
        run_at=given.run_at,
        tags=given.tags,
    )


def _told(receipt: uploads.Receipt) -> dict[str, object]:
    """`rejected_omitted` is there only when the list of refused rows had to be cut."""
    told: dict[str, object] = {
        "accepted": receipt.accepted,
        "duplicates": receipt.duplicates,
        "rejected": [{"line": row.line, "detail": row.detail} for row in receipt.listed],
        "rows": receipt.rows,
    }
    omitted = receipt.refused - len(receipt.listed)
    return {**told, "rejected_omitted": omitted} if omitted else told
