"""The splitters against the standard library's readers, cut at any place."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import rows

CELL = st.text(st.sampled_from('ab",;\n\r é🙂Ω='), max_size=8)
TABLE = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=1, max_size=8)
)
CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    cut, at, index = [], 0, 0
    while at < len(data):
        cut.append(data[at : at + cuts[index % len(cuts)]])
        at += cuts[index % len(cuts)]
        index += 1
    return cut


def split(splitter: rows.Splitter, data: bytes, cuts: list[int] | None = None) -> list[rows.Record]:
    found: list[rows.Record] = []
    for piece in pieces(data, cuts) if cuts else [data]:
        found += splitter.feed(piece)
    return [*found, *splitter.end()]


def table(data: bytes, delimiter: str = ",", cuts: list[int] | None = None) -> list[object]:
    reader = rows.Table(delimiter=delimiter)
    records = split(rows.CsvRecords(delimiter=delimiter), data, cuts)
    reader.open(records[0])
    return [(record.line, *reader.read(record)) for record in records[1:]]


@given(TABLE, CUTS, st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_valid_csv_is_read_as_the_standard_library_reads_it(
    cells: list[list[str]], cuts: list[int], delimiter: str, line_end: str, marked: bool
) -> None:
    out = io.StringIO(newline="")
    # A bare CR outside quotes is no CSV, and the writer quotes it only beside a CRLF.
    quoting = csv.QUOTE_MINIMAL if line_end == "\r\n" else csv.QUOTE_ALL
    csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(cells)
    text = out.getvalue()
    expected = [
        row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row
    ]
    data = (rows.BOM if marked else b"") + text.encode()
    records = split(rows.CsvRecords(delimiter=delimiter), data, cuts)
    assert [record.flaw for record in records] == [None] * len(records)
    read = [
        next(csv.reader([record.raw.decode()], delimiter=delimiter, strict=True))
        for record in records
    ]
    assert read == expected


@given(st.text(st.sampled_from('a",\n\r\\{}[]'), max_size=60), CUTS)
def test_where_an_upload_is_cut_changes_nothing(text: str, cuts: list[int]) -> None:
    data = text.encode()
    for make in (rows.Lines, rows.CsvRecords):
        assert split(make(), data, cuts) == split(make(), data)
    assert attempt(data, cuts) == attempt(data, None)
    assert attempt(b"[" + data, cuts) == attempt(b"[" + data, None)


def attempt(data: bytes, cuts: list[int] | None) -> object:
    try:
        return split(rows.ArrayElements(), data, cuts)
    except rows.Broken:
        return "malformed"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('a"\\,[]{} é\n')),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=6), CUTS, st.booleans(), st.sampled_from([None, 1]))
def test_array_elements_come_out_one_by_one(
    values: list[object], cuts: list[int], marked: bool, indent: int | None
) -> None:
    text = json.dumps(values, ensure_ascii=False, indent=indent)
    data = (rows.BOM if marked else b"") + b" \n" + text.encode() + b"\n"
    records = split(rows.ArrayElements(), data, cuts)
    assert [json.loads(record.raw) for record in records] == values
    assert [record.line for record in records] == list(range(1, len(values) + 1))


@pytest.mark.parametrize("data", [b"", b"{}", b"[1,2", b"[1] x", b"[1]]", b"\xef\xbb", b'["a\\'])
def test_what_is_no_array_is_malformed(data: bytes) -> None:
    with pytest.raises(rows.Broken):
        split(rows.ArrayElements(), data)


def test_the_line_is_where_the_record_starts() -> None:
    data = b'to,body\r\n\r\n1,"two\r\nlines, and ""more"""\r\n2,x\n'
    assert table(data) == [
        (3, {"to": "1", "body": 'two\r\nlines, and "more"'}, None),
        (5, {"to": "2", "body": "x"}, None),
    ]


def test_a_bad_row_harms_itself_alone() -> None:
    long = b"x" * (rows.MAX_RECORD_BYTES + 1)
    wrong = [b"1", b"1,2,3", b"\xff,2", b"1,\x00", b'"x"y,2', long, b'"1,2', long + b'",3']
    data = b"\n".join([b"a,b", b"1,2", *wrong, b"4,5"])
    found = table(data, cuts=[1000, 7])
    assert [(line, flaw is None) for line, _, flaw in found] == [
        (2, True), (3, False), (4, False), (5, False), (6, False), (7, False), (8, False),
        (9, False), (11, True),
    ]  # fmt: skip
    assert found[1][2] == "has 1 columns, the header has 2"
    assert "UTF-8" in str(found[3][2])
    assert found[6][2] == rows.TOO_LONG
    assert found[7][2] == rows.TOO_LONG


def test_a_quote_that_is_never_closed_is_named() -> None:
    assert table(b'a,b\n1,2\n"3,4\n5,6') == [
        (2, {"a": "1", "b": "2"}, None),
        (3, {}, "a quote is opened and never closed"),
    ]


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (b"a,a", rows.WrongHeader),
        (b"a,", rows.WrongHeader),
        (b"\xff", rows.Broken),
        (b'"a', rows.Broken),
    ],
)
def test_a_header_that_names_no_columns_refuses_the_upload(
    header: bytes, kind: type[ValueError]
) -> None:
    with pytest.raises(kind):
        table(header + b"\n1,2\n" if header != b'"a' else header)


def test_the_memory_of_a_splitter_is_bounded() -> None:
    splitter = rows.CsvRecords()
    for _ in range(100):
        assert not list(splitter.feed(b'"' + b"x" * 10_000 + b'""'))
        assert len(splitter._gathered._bytes) <= rows.MAX_RECORD_BYTES


@given(TABLE, CUTS, st.sampled_from(["", "\ufeff"]), st.sampled_from(["\n", "\r\n"]))
def test_behind_any_record_the_rest_can_be_read_alone(
    table: list[list[str]], cuts: list[int], mark: str, line_end: str
) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator=line_end).writerows(table)
    for data, splitter in [
        ((mark + file.getvalue()).encode(), rows.CsvRecords),
        ((mark + line_end.join(map(json.dumps, table))).encode(), rows.Lines),
    ]:
        whole = split(splitter(), data, cuts)
        for n, record in enumerate(whole):
            assert split(splitter(record.end), data[record.end.at :], cuts) == whole[n + 1 :]
