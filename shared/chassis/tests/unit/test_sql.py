"""Statements by name, out of the file beside the module."""

from pathlib import Path

import pytest

from chassis import sql


def queries(path: Path, text: str) -> sql.Queries:
    (path / "store.sql").write_text(text)
    return sql.queries(str(path / "store.py"))


def test_blocks_by_name(tmp_path: Path) -> None:
    found = queries(
        tmp_path,
        "-- all of it\n-- name: one\n-- why\nselect 1\n\n-- name: two\nselect '-- name: x'\n",
    )
    assert found.names() == ["one", "two"]
    assert found.one == "-- why\nselect 1"
    assert found.two == "select '-- name: x'"


def test_a_missing_name_says_which_file(tmp_path: Path) -> None:
    found = queries(tmp_path, "-- name: one\nselect 1")
    with pytest.raises(AttributeError, match=r"store\.sql has no block 'two'"):
        _ = found.two


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("select 1", "no named"),
        ("-- name: one\na\n-- name: one\nb", "two statements"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        queries(tmp_path, text)
