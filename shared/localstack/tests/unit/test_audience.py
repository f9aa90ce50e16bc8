"""Who a file means, read by the strictest reader: what a campaign's outcome is held against."""

from pathlib import Path

import pytest

from localstack import audience

ONE, TWO = "+306912345678", "+442079460101"


def read(folder: Path, text: str | bytes) -> audience.Audience:
    path = folder / "rows.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return audience.read(path)


def test_rows_without_fault_each_once(tmp_path: Path) -> None:
    found = read(tmp_path, f'to,note\n{ONE},"a, ""b""\nc"\n{TWO},x\r\n')
    assert found == audience.Audience(frozenset({ONE, TWO}), 2)


@pytest.mark.parametrize(
    "row",
    [b",x", b"6912345678,x", b"+30691,x", b"+9991234567890,x", b"+306912345679", b"no,x",
     b"+306912345679,a,b", b"+306912345679,\xff", b'+306912345679,"a"b', b"+0306912345,x",
     b"+306912345679," + b"x" * audience.ROW_MAX_BYTES],
)  # fmt: skip
def test_every_other_row_counts_and_means_nobody(tmp_path: Path, row: bytes) -> None:
    found = read(tmp_path, b"to,note\n" + row + b"\n" + ONE.encode() + b",x\n")
    assert found == audience.Audience(frozenset({ONE}), 2)


def test_a_sample_that_names_somebody_twice_is_no_measure(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="twice"):
        read(tmp_path, f"to,note\n{ONE},x\n{ONE},y\n")
