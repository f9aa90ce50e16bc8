"""The table of README.md names tests that are there, each case that was told is in it."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def defined(*paths: Path) -> set[str]:
    return {name for path in paths for name in DEFINED.findall(path.read_text())}


def test_each_case_of_another_queue_is_a_test_of_ours() -> None:
    named = set(re.findall(r"`(test_\w+)`", (TESTS / "README.md").read_text()))
    there = defined(*TESTS.rglob("test_*.py"), *TESTS.parents[2].glob("sdk/*/tests/**/test_*.py"))
    assert not named - there
    assert not defined(TESTS / "conformance" / "test_peers.py") - named
