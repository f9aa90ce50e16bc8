"""What a stack keeps: for its owner's eyes, one stack at a time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis import crypto
from localstack import home as homes
from localstack.home import Home, HomeError
from localstack.servers import process


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    made.open()
    yield made
    made.close()


def test_one_stack_at_a_time_and_the_other_is_told_who(home: Home) -> None:
    other = Home(home.path)
    with pytest.raises(HomeError, match=f"pid {os.getpid()}"):
        other.open()
    home.close()
    other.open()
    other.close()


def test_two_homes_side_by_side(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.open()
    other.close()


def test_a_home_that_cannot_be_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(HomeError, match="set MAINSTAY_HOME"):
        Home(file / "home").open()


def test_the_admin_key_is_made_once_kept_and_replaced_by_a_given_one(home: Home) -> None:
    made = home.admin_key(None)
    assert len(made) >= 64
    assert home.admin_key(None) == made
    assert home.admin_key("x" * 40) == "x" * 40
    assert home.admin_key(None) == "x" * 40


def test_keys_are_made_once_and_work(home: Home) -> None:
    home.ensure_keys(["gateway", "queue-service"])
    before = {path: path.read_bytes() for path in home.keys.rglob("*") if path.is_file()}
    home.ensure_keys(["gateway", "queue-service"])
    assert before == {path: path.read_bytes() for path in home.keys.rglob("*") if path.is_file()}
    minter = crypto.Minter(
        service="gateway", private_key_pem=home.service_key("gateway").read_text()
    )
    verifier = crypto.Verifier.from_directory(service="queue-service", directory=home.public_keys)
    assert verifier.verify(minter.mint("queue-service")).service == "gateway"
    for path in (home.session_keys_file, home.queue_keys_file):
        crypto.Keyring(path.read_text().strip())


def test_secrets_are_for_their_owner_alone(home: Home) -> None:
    home.admin_key(None)
    home.ensure_keys(["gateway"])
    sealing = [home.session_keys_file, home.queue_keys_file]
    secrets = [home.admin_key_file, *sealing, home.service_key("gateway")]
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert home.logs.stat().st_mode & 0o077 == 0
    assert not list(home.path.rglob("*.new"))


MARK = "mainstay-left-over"


def test_left_over_children_are_ended_and_strangers_with_their_pid_are_not(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "LEFT_OVER_S", 0.1)
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    ours = subprocess.Popen([*sleeper, MARK], start_new_session=True)
    stranger = subprocess.Popen([*sleeper, "else"], start_new_session=True)
    try:
        for name, child in (("worker", ours), ("gateway", stranger)):
            home.pid_file(name).write_text(f"{child.pid}\n")
        assert process.wait_until(lambda: MARK in process.command_line(ours.pid), within_s=5)
        home.pid_file("broken").write_text("no number")
        found = home.end_left_over({"worker": MARK, "gateway": MARK, "broken": MARK, "none": MARK})
        assert found == ["worker"]
        assert ours.wait(5) == -9
        assert stranger.poll() is None
        assert list(home.run.iterdir()) == []
    finally:
        for child in (ours, stranger):
            child.kill()
            child.wait(5)
