"""A test that prints a token fails, whatever it was about."""

import subprocess
import sys
from pathlib import Path

import pytest

from testkit.leaks import found_in

# Made here, so that this file's own text is nothing to find.
ACCESS = "shp" + "at_" + 32 * "0"
ID_TOKEN = ".".join("eyJ" + 20 * letter for letter in "ab") + "." + 43 * "s"

TESTS = """
import logging, os, sys
from pathlib import Path
ACCESS, ID_TOKEN = {access!r}, {id_token!r}

def test_says_nothing():
    print("shpat_", "shpat_***", "eyJ.eyJ.x")

def test_prints():
    print("token", ACCESS)

def test_logs():
    logging.getLogger("a").warning("claims %s", ID_TOKEN)

def test_leaves_a_log(tmp_path):
    (tmp_path / "service.log").write_text(ACCESS)

def test_keeps_data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "server.log").write_text(ACCESS)

def test_of_the_run(run):
    (run.folder / "stack.out").write_text(ACCESS)
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of the tests above."""
    folder: Path = tmp_path_factory.mktemp("suite")
    suite = folder / "test_suite.py"
    suite.write_text(TESTS.format(access=ACCESS, id_token=ID_TOKEN))
    settings = folder / "pytest.ini"
    settings.write_text("[pytest]\naddopts = -p testkit.plugin -p testkit.leaks -rA\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(suite)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


@pytest.mark.parametrize("name", ["test_prints", "test_logs", "test_leaves_a_log"])
def test_who_writes_a_token_fails(printed: str, name: str) -> None:
    assert f"ERROR test_suite.py::{name}" in printed


@pytest.mark.parametrize("name", ["test_says_nothing", "test_keeps_data", "test_of_the_run"])
def test_who_does_not_is_left_alone(printed: str, name: str) -> None:
    assert f"ERROR test_suite.py::{name}" not in printed


def test_a_log_of_the_run_fails_the_run(printed: str) -> None:
    assert "tokens in the logs of this run" in printed
    assert "stack.out: shpat_…" in printed


def test_the_token_itself_is_not_repeated() -> None:
    lines = list(found_in(f"first\nauthorization: Bearer {ACCESS}\nlast"))
    assert lines == ["authorization: Bearer shpat_…"]
