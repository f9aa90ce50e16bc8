"""A dead child comes back: at once or, if it keeps dying, later."""

from pathlib import Path

import pytest

from localstack.children import RESTART_MAX_S, STEADY_S, Child, Program, write_pid
from localstack.servers import process
from localstack.servers.errors import ServerError
from testkit.clock import FakeClock


class Thing:
    """Lives until the test says otherwise."""

    def __init__(self) -> None:
        self.pid = 100
        self.is_running = False
        self.refuses = False

    def start(self) -> None:
        if self.refuses:
            raise ServerError("no port")
        self.pid += 1
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False

    kill = stop


class Kept:
    """A child with everything around it."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.thing = Thing()
        self.clock = clock
        self.said: list[str] = []
        self.pid_file = folder / "worker.pid"
        self.child = Child(
            "worker", self.thing, pid_file=self.pid_file, say=self.said.append,
            clock=clock.monotonic,
        )  # fmt: skip

    def dies(self) -> None:
        self.thing.is_running = False
        self.child.run_once()

    def returns_within(self, seconds: float) -> bool:
        self.clock.advance(seconds)
        self.child.run_once()
        return self.child.is_running


@pytest.fixture
def kept(tmp_path: Path, clock: FakeClock) -> Kept:
    made = Kept(tmp_path, clock)
    made.child.start()
    return made


def test_the_pid_file_says_who_it_is_now(kept: Kept) -> None:
    assert kept.pid_file.read_text() == "101\n"
    kept.dies()
    assert not kept.pid_file.exists()
    assert kept.returns_within(1.0)
    assert kept.pid_file.read_text() == "102\n"
    assert kept.child.restarts == 1
    assert "is back, pid 102" in kept.said[-1]


def test_who_keeps_dying_comes_back_later_but_always_comes(kept: Kept) -> None:
    for failures in range(1, 12):
        kept.dies()
        assert kept.returns_within(min(2.0 ** (failures - 1), RESTART_MAX_S))
    assert kept.child.restarts == 11


def test_a_steady_life_forgives_the_past(kept: Kept) -> None:
    for _ in range(8):
        kept.dies()
        kept.returns_within(RESTART_MAX_S)
    kept.clock.advance(STEADY_S)
    kept.child.run_once()
    kept.dies()
    assert kept.returns_within(1.0)


def test_who_cannot_start_is_tried_again(kept: Kept) -> None:
    kept.thing.refuses = True
    kept.dies()
    assert not kept.returns_within(1.0)
    assert "cannot start: no port" in kept.said[-1]
    kept.thing.refuses = False
    assert kept.returns_within(2.0)


@pytest.mark.parametrize("word", ["stop", "kill"])
def test_who_was_asked_to_end_stays_away(kept: Kept, word: str) -> None:
    getattr(kept.child, word)()
    assert not kept.returns_within(100)
    kept.child.forget()
    assert not kept.pid_file.exists()
    assert kept.said == []


def test_a_pid_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.pid"
    write_pid(path, 5)
    write_pid(path, 6)
    assert path.read_text() == "6\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_program_frozen_or_not_ends_when_asked(tmp_path: Path) -> None:
    program = Program(["/bin/sleep", "60"], env={}, log=tmp_path / "log")
    with pytest.raises(ServerError):
        _ = program.pid
    program.start()
    assert program.is_running
    process.freeze(program.pid)
    program.stop()
    assert process.wait_until(lambda: not program.is_running, within_s=5)
    assert program.code == -15
    program.start()
    program.kill()
    assert program.code == -9
    program.stop()
