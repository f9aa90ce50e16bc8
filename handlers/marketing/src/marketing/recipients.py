"""A list of recipients behind a URL, read row by row from where an earlier attempt stopped.

With a strong ETag the rest is asked for by Range and If-Range; without one, or where that range is
refused, everything is read again and the rows that were taken are passed over. Either way the list
must be the one that was begun: a row is known by its number alone, so another list under the same
numbers ends as `SourceChanged`.
"""

import errno
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from mainstay import errors
from mainstay.handler import Permanent
from mainstay.rows import Broken, CsvRecords, Lines, Place, Record, Splitter, Table, WrongHeader

Format = Literal["csv", "ndjson"]
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
MAX_REDIRECTS = 5
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
SUFFIXES: dict[str, Format] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


class SourceChanged(Permanent):
    type = "source_changed"


class SourceRefused(Permanent):
    """It cannot be read, now or later."""

    type = "source_refused"


class Unreachable(Exception):
    """It cannot be read now. `retry_after_s` is its own wish."""

    def __init__(self, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a list was read: `rows` of them, up to byte `at` before `line`. `digest` is that of
    what was read, `etag` a strong one."""

    rows: int = 0
    at: int = 0
    line: int = 1
    digest: str = ""
    header: Sequence[str] | None = None
    etag: str | None = None
    format: Format | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        return cls(**document)

    def document(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def place(self) -> Place:
        return Place(self.at, self.line)

    def behind(self, record: Record, *, rows_more: int) -> "Mark":
        digest = hashlib.blake2b(self.digest.encode() + record.raw, digest_size=16).hexdigest()
        end = record.end
        return replace(self, rows=self.rows + rows_more, at=end.at, line=end.line, digest=digest)


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts from 0 without the header. With a `flaw` the args mean nothing; `mark` is
    where the list goes on."""

    number: int
    line: int
    args: Mapping[str, Any]
    flaw: str | None
    mark: Mark


@dataclass(slots=True)
class Reading:
    """The list, or the rest of it. `skipped_s`: what it took to get to the first new row."""

    session: aiohttp.ClientSession
    url: str
    format: Format | None = None
    delimiter: str = ","
    skipped_s: float = 0.0

    async def rows(self, mark: Mark) -> AsyncGenerator[list[Row], None]:
        """The rows behind the mark, as many at a time as came at once. Raises Unreachable."""
        started = time.monotonic()
        try:
            async with self._answer(mark) as response:
                if response is None:
                    return
                goes_on = response.status == 206
                taking = _Taking(
                    begin=mark if goes_on else replace(self._fresh(response, mark), etag=None),
                    until=mark,
                    etag=_strong(response),
                    delimiter=self.delimiter,
                )
                async with aclosing(_pieces(response)) as pieces:
                    async for piece in pieces:
                        if found := list(taking.rows(piece)):
                            self.skipped_s = self.skipped_s or time.monotonic() - started
                            yield found
                if found := list(taking.rest()):
                    yield found
        except Broken as error:
            raise SourceRefused(f"this is no list: {error}") from None
        except WrongHeader as error:
            raise SourceRefused(str(error)) from None
        except aiohttp.InvalidURL:
            raise SourceRefused("the URL, or one it leads to, is none") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _named(error) from None

    @asynccontextmanager
    async def _answer(self, mark: Mark) -> AsyncGenerator[aiohttp.ClientResponse | None, None]:
        """None: behind the mark there is nothing. A range that is refused for no such reason is
        done without."""
        if mark.etag is not None and mark.at:
            rest = {"Range": f"bytes={mark.at}-", "If-Range": mark.etag}
            async with self._request(rest) as response:
                self._judge(response, mark)
                if response.status != 416:
                    yield response
                    return
                if _ends_at(response, mark.at):
                    yield None
                    return
        async with self._request({}) as response:
            self._judge(response, mark)
            if response.status == 416:
                raise SourceRefused("the source answered 416")
            yield response

    def _request(self, more: Mapping[str, str]) -> Any:
        headers = {"Accept": "text/csv, application/x-ndjson, */*;q=0.5",
                   "Accept-Encoding": "identity", **more}  # fmt: skip
        return self.session.get(
            URL(self.url, encoded=True),
            headers=headers,
            timeout=TIMEOUT,
            max_redirects=MAX_REDIRECTS,
        )

    def _judge(self, response: aiohttp.ClientResponse, mark: Mark) -> None:
        status, etag = response.status, _strong(response)
        if status in AGAIN:
            raise Unreachable(
                f"the source answered {status}",
                errors.retry_after_s(response.headers.get("Retry-After")),
            )
        if status not in (200, 206, 416):
            raise SourceRefused(f"the source answered {status}")
        encoding = response.headers.get("Content-Encoding", "identity").lower()
        if status != 416 and encoding != "identity":
            raise SourceRefused("the source answers encoded, whatever is asked for")
        if mark.etag is not None and etag is not None and etag != mark.etag:
            raise _changed(mark)
        if status == 206 and not _begins_at(response, mark.at):
            raise SourceRefused("the source answers with another part than was asked for")

    def _fresh(self, response: aiohttp.ClientResponse, mark: Mark) -> Mark:
        return Mark(format=mark.format or self.format or _format(self.url, response))


class _Taking:
    """Bytes into rows; those before `until` are passed over, and must be what they were."""

    def __init__(self, *, begin: Mark, until: Mark, etag: str | None, delimiter: str) -> None:
        self._mark = replace(begin, etag=etag or begin.etag)
        self._until = until
        is_csv = begin.format == "csv"
        self._splitter: Splitter = (
            CsvRecords(begin.place, delimiter=delimiter) if is_csv else Lines(begin.place)
        )
        self._table = Table(delimiter=delimiter, header=begin.header) if is_csv else None

    def rows(self, piece: bytes) -> Iterator[Row]:
        yield from self._read(self._splitter.feed(piece))

    def rest(self) -> Iterator[Row]:
        yield from self._read(self._splitter.end())
        if self._table is not None and self._table.header is None:
            raise WrongHeader("the list is empty: a CSV begins with its header")
        if self._mark.rows < self._until.rows:
            raise _changed(self._until)

    def _read(self, records: Iterator[Record]) -> Iterator[Row]:
        for record in records:
            if self._table is not None and self._table.header is None:
                self._table.open(record)
                header = self._table.header
                self._mark = replace(self._mark.behind(record, rows_more=0), header=header)
                continue
            number = self._mark.rows
            self._mark = self._mark.behind(record, rows_more=1)
            if number >= self._until.rows:
                args, flaw = self._args(record)
                yield Row(number, record.line, args, flaw, self._mark)
            elif self._mark.rows == self._until.rows and self._mark.digest != self._until.digest:
                raise _changed(self._until)

    def _args(self, record: Record) -> tuple[Mapping[str, Any], str | None]:
        if self._table is not None:
            return self._table.read(record)
        if record.flaw is not None:
            return {}, record.flaw
        try:
            args = json.loads(record.raw, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            return {}, f"is not JSON ({type(error).__name__})"
        return (args, None) if isinstance(args, dict) else ({}, "is not a JSON object")


def _no_number(name: str) -> Any:
    raise ValueError(name)


def _changed(mark: Mark) -> SourceChanged:
    return SourceChanged(f"the list is another than the one of which {mark.rows} rows are taken")


def _format(url: str, response: aiohttp.ClientResponse) -> Format:
    path = urlsplit(url).path.lower()
    by_name = next((known for suffix, known in SUFFIXES.items() if path.endswith(suffix)), None)
    return by_name or ("ndjson" if response.content_type in NDJSON else "csv")


def _strong(response: aiohttp.ClientResponse) -> str | None:
    etag = response.headers.get("ETag", "")
    return etag[:200] if etag.startswith('"') else None


def _begins_at(response: aiohttp.ClientResponse, at: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {at}-")


def _ends_at(response: aiohttp.ClientResponse, at: int) -> bool:
    return response.headers.get("Content-Range", "") == f"bytes */{at}"


async def _pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    async for piece in response.content.iter_any():
        yield piece


def _named(error: aiohttp.ClientError | OSError) -> Exception:
    """The URL may hold a secret, so it is in no error."""
    refused = isinstance(error, aiohttp.ClientConnectorError) and error.errno == errno.EACCES
    if refused:
        return SourceRefused("its address may not be called")
    return Unreachable(f"the source broke off: {type(error).__name__}")
