"""Lists of people, orders, … taken apart as they arrive: bytes in pieces of any size → records.

Memory is bounded. A splitter only finds where records end, so a bad record harms itself alone: what
is over-long is skipped to its own end and reported, what is not UTF-8 is judged when the record is
read.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

MAX_RECORD_BYTES = 64 * 1024
MAX_COLUMNS = 1000
BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
TOO_LONG = f"longer than {MAX_RECORD_BYTES} bytes"


class Broken(ValueError):
    """The bytes as a whole are not what they should be."""


class WrongHeader(ValueError):
    """The columns of a table cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a splitter may begin in the middle: `at` so many bytes, on which physical `line`."""

    at: int = 0
    line: int = 1


START = Place()


@dataclass(frozen=True, slots=True)
class Record:
    """One record's bytes without its line end. `line` is the physical line it starts on, from 1;
    in a JSON array the element's position. With a `flaw` the bytes are not to be used. `end` is
    where the next one begins (not in a JSON array)."""

    line: int
    raw: bytes
    flaw: str | None = None
    end: Place = field(default=START, compare=False)


class Splitter(Protocol):
    def feed(self, piece: bytes) -> Iterator[Record]:
        """The records that end in this piece."""
        ...

    def end(self) -> Iterator[Record]:
        """What is left when the upload is over; Broken if it cannot be over here."""
        ...


class _Gathered:
    """The bytes of the record being read; lets go of them when they become too many."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._over = False

    def add(self, piece: bytes) -> None:
        if len(self._bytes) + len(piece) > MAX_RECORD_BYTES:
            self._over = True
        if self._over:
            self._bytes.clear()
        else:
            self._bytes += piece

    def take(self, line: int, flaw: str | None = None) -> Record:
        record = Record(line, bytes(self._bytes), TOO_LONG if self._over else flaw)
        self._bytes.clear()
        self._over = False
        return record


class _Unmarked:
    """Drops a byte order mark from the front, also when it comes in pieces. `dropped` is how many
    bytes that were."""

    def __init__(self, *, is_front: bool = True) -> None:
        self.dropped = 0
        self._head: bytes | None = b"" if is_front else None

    def pass_on(self, piece: bytes) -> bytes:
        if self._head is None:
            return piece
        head = self._head + piece
        if len(head) < len(BOM) and BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        self.dropped = len(BOM) if head.startswith(BOM) else 0
        return head[self.dropped :]

    def rest(self) -> bytes:
        """What looked like the beginning of a mark until the upload ended."""
        head, self._head = self._head or b"", None
        return head


class Lines:
    """NDJSON: every line that is not blank is a record. LF or CRLF."""

    def __init__(self, begin: Place = START) -> None:
        self._unmarked = _Unmarked(is_front=begin.at == 0)
        self._gathered = _Gathered()
        self._at = begin.at
        self._line = begin.line
        self._starts = begin.line

    def feed(self, piece: bytes) -> Iterator[Record]:
        yield from self._split(self._unmarked.pass_on(piece))

    def end(self) -> Iterator[Record]:
        yield from self._split(self._unmarked.rest())
        yield from self._close(self._unfinished())

    def _split(self, piece: bytes) -> Iterator[Record]:
        start = 0
        while start < len(piece):
            newline = piece.find(b"\n", start)
            stop = len(piece) if newline < 0 else newline + 1
            segment = piece[start:stop]
            self._at += len(segment)
            self._gathered.add(segment)
            goes_on = self._goes_on(segment)
            if newline >= 0:
                self._line += 1
                if not goes_on:
                    yield from self._close()
            start = stop

    def _goes_on(self, segment: bytes) -> bool:
        """Does the record go on behind this segment's line end?"""
        return False

    def _unfinished(self) -> str | None:
        """Why the record that the upload ended in is none."""
        return None

    def _close(self, flaw: str | None = None) -> Iterator[Record]:
        record = self._gathered.take(self._starts, flaw)
        raw = record.raw.removesuffix(b"\n").removesuffix(b"\r")
        self._starts = self._line
        if record.flaw is not None or raw:
            end = Place(self._at + self._unmarked.dropped, self._line)
            yield Record(record.line, raw, record.flaw, end)


class _At(Enum):
    """Where in a CSV field the splitter stands."""

    START = auto()
    PLAIN = auto()
    QUOTED = auto()
    CLOSING = auto()


_ON_QUOTE = {
    _At.START: _At.QUOTED,
    _At.PLAIN: _At.PLAIN,
    _At.QUOTED: _At.CLOSING,
    _At.CLOSING: _At.QUOTED,
}
_ON_DELIMITER = {
    _At.START: _At.START,
    _At.PLAIN: _At.START,
    _At.QUOTED: _At.QUOTED,
    _At.CLOSING: _At.START,
}


class CsvRecords(Lines):
    """RFC 4180 records: a line end inside quotes is content."""

    def __init__(self, begin: Place = START, *, delimiter: str = ",") -> None:
        super().__init__(begin)
        self._special = re.compile(b'["' + re.escape(delimiter.encode()) + b"]")
        self._in_field = _At.START

    def _goes_on(self, segment: bytes) -> bool:
        self._in_field = self._walk(segment)
        if self._in_field is not _At.QUOTED and segment.endswith(b"\n"):
            self._in_field = _At.START
        return self._in_field is _At.QUOTED

    def _walk(self, segment: bytes) -> _At:
        at, seen = self._in_field, 0
        if at in (_At.START, _At.PLAIN) and b'"' not in segment:
            return _At.START if self._special.match(segment[-1:]) else _At.PLAIN
        for found in self._special.finditer(segment):
            if found.start() > seen and at is not _At.QUOTED:
                at = _At.PLAIN
            at = (_ON_QUOTE if found.group() == b'"' else _ON_DELIMITER)[at]
            seen = found.end()
        return _At.PLAIN if seen < len(segment) and at is not _At.QUOTED else at

    def _unfinished(self) -> str | None:
        return "a quote is opened and never closed" if self._in_field is _At.QUOTED else None


class ArrayElements:
    """The elements of one JSON array. Only their ends are found here; each is judged when read."""

    # An escape is one token, so that an escaped quote ends no text.
    _TOKEN = re.compile(rb'\\[\s\S]?|["\[\]{},]')

    def __init__(self) -> None:
        self._unmarked = _Unmarked()
        self._gathered = _Gathered()
        self._held = b""
        self._position = 0
        self._depth = 0
        self._in_text = False
        self._only_blank = True
        self._over = False

    def feed(self, piece: bytes) -> Iterator[Record]:
        piece = self._held + self._unmarked.pass_on(piece)
        self._held = b""
        if not self._over and self._depth == 0:
            piece = self._open(piece)
        start = 0
        for token in self._TOKEN.finditer(piece) if self._depth else ():
            if token.group() == b"\\":
                self._held, piece = b"\\", piece[:-1]
            elif self._ends_element(token.group()):
                yield from self._element(piece[start : token.start()])
                start = token.end()
                if self._over:
                    break
        self._rest(piece[start:])

    def end(self) -> Iterator[Record]:
        if not self._over:
            raise Broken(f"the JSON array breaks off after {self._position} elements")
        return iter(())

    def _open(self, piece: bytes) -> bytes:
        head = piece.lstrip(BLANK)
        if head and not head.startswith(b"["):
            raise Broken("the body is not a JSON array")
        self._depth = 1 if head else 0
        return head[1:]

    def _ends_element(self, token: bytes) -> bool:
        if token == b'"':
            self._in_text = not self._in_text
        elif not self._in_text:
            match token:
                case b"[" | b"{":
                    self._depth += 1
                case b"]" | b"}":
                    self._depth -= 1
                    self._over = self._depth == 0
                    return self._over
                case b",":
                    return self._depth == 1
        return False

    def _element(self, last: bytes) -> Iterator[Record]:
        self._gather(last)
        empty_array = self._over and self._position == 0 and self._only_blank
        record = self._gathered.take(self._position + 1)
        self._only_blank = True
        if not empty_array:
            self._position += 1
            yield Record(record.line, record.raw.strip(BLANK), record.flaw)

    def _rest(self, piece: bytes) -> None:
        if not self._over:
            self._gather(piece)
        elif piece.strip(BLANK):
            raise Broken("there is something behind the JSON array")

    def _gather(self, piece: bytes) -> None:
        self._only_blank = self._only_blank and not piece.strip(BLANK)
        self._gathered.add(piece)


class Table:
    """Reads CSV records as rows named by the header, which is the first of them."""

    def __init__(self, *, delimiter: str = ",", header: Sequence[str] | None = None) -> None:
        self._delimiter = delimiter
        self.header = tuple(header) if header is not None else None

    def open(self, record: Record) -> None:
        """Take the header. WrongHeader or Broken: then the upload as a whole is no table."""
        if record.flaw is not None:
            raise Broken(f"the header: {record.flaw}")
        names, flaw = self._fields(record.raw)
        if flaw is not None:
            raise Broken(f"the header: {flaw}")
        names = [name.strip() for name in names]
        if not all(names):
            raise WrongHeader("the header has a column without a name")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise WrongHeader(f"the header has a column twice: {', '.join(twice)[:200]}")
        self.header = tuple(names)

    def read(self, record: Record) -> tuple[dict[str, str], str | None]:
        """The row by column name, or why it is none."""
        assert self.header is not None
        if record.flaw is not None:
            return {}, record.flaw
        values, flaw = self._fields(record.raw)
        if flaw is not None:
            return {}, flaw
        if len(values) != len(self.header):
            return {}, f"has {len(values)} columns, the header has {len(self.header)}"
        return dict(zip(self.header, values, strict=True)), None

    def _fields(self, raw: bytes) -> tuple[list[str], str | None]:
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            return [], f"is not UTF-8 (byte {error.start + 1} of the row)"
        if "\x00" in text:
            return [], "holds U+0000"
        try:
            (fields,) = csv.reader((text,), delimiter=self._delimiter, strict=True)
        except (csv.Error, ValueError) as error:
            return [], f"is not valid CSV: {error}"
        return fields, f"has more than {MAX_COLUMNS} columns" if len(fields) > MAX_COLUMNS else None
