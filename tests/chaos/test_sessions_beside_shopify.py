"""The table that puts us beside Shopify's own packages can be printed, and says what it should."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_the_table_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "sessions", "--scale", "0.1"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    rows = {
        cells[0]: cells[1:]
        for line in re.findall(r"^\| (.+) \|$", done.stdout, re.MULTILINE)
        for cells in [line.split(" | ")]
    }
    crowds = [cells for what, cells in rows.items() if what.startswith("a crowd, token ended")]
    assert [cells[1:] for cells in crowds] == [["1 call, 20 served"] * 2] * 2
    assert rows["520 with a page of HTML, twice"][1:] == ["served; 3 calls"] * 2
    assert rows["answer lost after the rotation"][1:] == ["2 × served; 2 calls"] * 2
    assert {cells[-1] for what, cells in rows.items() if "kept" in what} == {"yes"}
    assert rows["tokens cannot be read in the store"] == ["no", "no", "yes"]
