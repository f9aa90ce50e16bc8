"""The whole stack with stand-ins for its five processes: order, returns, drains, ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localstack import children, plan, settings
from localstack.home import Home, HomeError
from localstack.plan import Plan
from localstack.servers import ports, process
from localstack.stack import Stack, StackError, StackPostgres, Stopped

STANDIN = Path(__file__).with_name("standin.py")
API = ["gateway api", "queue_service api", "session_service api", "ratelimit_service api"]
WORKER = "queue_service worker"


class Place:
    """A home and an environment in which the five processes are stand-ins."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.home = folder / "home"
        self.base = _free_base()
        self.said: list[str] = []
        packages = folder / "packages"
        for process_ in plan.PROCESSES:
            package = packages / process_.package
            package.mkdir(parents=True, exist_ok=True)
            shutil.copy(STANDIN, package / "__main__.py")
            (package / "__init__.py").touch()
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.environ = {
            **kept,
            "PYTHONPATH": str(packages),
            "STANDIN_JOURNAL": str(self.journal),
            "MAINSTAY_HOME": str(self.home),
            "MAINSTAY_PORT_BASE": str(self.base),
            "DRAIN_TIMEOUT_S": "5",
        }

    def stack(self, stopping: Callable[[], bool] = lambda: False, **environ: str) -> Stack:
        known = {**self.environ, **environ}
        wanted = Plan(settings=settings.load(known), home=Home(self.home), environ=known)
        return Stack(wanted, say=self.said.append, stopping=stopping)

    def lines(self, event: str) -> list[str]:
        text = self.journal.read_text() if self.journal.exists() else ""
        found = (line.split() for line in text.splitlines())
        return [" ".join(words[1:-1]) for words in found if words[0] == event]

    def pid(self, name: str) -> int:
        return int((self.home / "run" / f"{name}.pid").read_text())

    def run(self, verb: str = "serve", **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "localstack", verb], env={**self.environ, **environ},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip


def _free_base() -> int:
    while True:
        base = ports.free_port()
        if all(ports.is_free(base + offset) for offset in (0, 1, 2, 3, 10, 20, *range(100, 105))):
            return base


@pytest.fixture
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="mainstay-stack-"))
    folder.chmod(0o711)  # root's Postgres runs as somebody else and must get in
    yield Place(folder)
    shutil.rmtree(folder, ignore_errors=True)


class Forgetful(StackPostgres):
    """Does not wait for the disk."""

    def __init__(self, home: Path, *, port: int, bind: str) -> None:
        super().__init__(home, port=port, bind=bind, durable=False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localstack.stack.StackPostgres", Forgetful)


def stop(stack: Stack) -> None:
    stack.stop(hurry=lambda: False)


def test_starts_in_order_keeps_alive_and_drains_in_order(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "RESTART_BASE_S", 0.01)
    stack = place.stack()
    try:
        stack.start()
        assert sorted(place.lines("migrated")) == sorted(
            f"{one.partition(' ')[0]} migrate" for one in API
        )
        started = place.lines("started")
        assert sorted(started) == sorted([*API, WORKER])
        assert started[-2:] == [WORKER, "gateway api"]
        assert stack.dependencies() == {"redis": "absent"}
        with urllib.request.urlopen(f"{stack.plan.sandbox_url}/healthz") as answer:
            assert answer.status == 200
        with pytest.raises(HomeError, match="in use"):
            place.stack().start()

        dead = place.pid("queue-worker")
        os.kill(dead, signal.SIGKILL)
        assert process.wait_until(lambda: _looked(stack, "queue-worker"), within_s=20)
        assert process.wait_until(lambda: place.lines("started").count(WORKER) == 2, within_s=20)
        assert place.pid("queue-worker") != dead
        assert stack.restarts == {"queue-worker": 1}
        assert any("queue-worker is back" in line for line in place.said)
    finally:
        stop(stack)
    assert place.lines("ended")[:3] == ["gateway api", "queue_service api", WORKER]
    assert sorted(place.lines("ended")) == sorted([*API, WORKER])
    assert not list((place.home / "run").glob("*.pid"))
    key = stack.admin_key
    again = place.stack()
    try:
        again.start()
        assert again.admin_key == key
    finally:
        stop(again)


def _looked(stack: Stack, name: str) -> bool:
    stack.run_once()
    return bool(stack.restarts.get(name)) and stack._children[name].is_running


def test_who_dies_at_its_start_ends_the_start_and_shows_its_log(place: Place) -> None:
    worker_port = str(place.base + 104)
    stack = place.stack(STANDIN_FAILS=worker_port)
    try:
        with pytest.raises(StackError) as caught:
            stack.start()
    finally:
        stop(stack)
    assert "queue-worker ended with 1" in str(caught.value)
    assert "told to fail" in str(caught.value)
    assert sorted(place.lines("ended")) == sorted(one for one in API if "gateway" not in one)


def test_taken_ports_are_named_before_anything_starts(place: Place) -> None:
    with socket.create_server(("127.0.0.1", place.base + 1)):
        stack = place.stack()
        try:
            with pytest.raises(StackError, match=rf"{place.base + 1} \(queue-service\)"):
                stack.start()
        finally:
            stop(stack)
    assert not place.journal.exists()


def test_whoever_wants_it_to_stop_need_not_wait_for_its_start(place: Place) -> None:
    stack = place.stack(stopping=lambda: True)
    try:
        with pytest.raises(Stopped):
            stack.start()
    finally:
        stop(stack)
    assert not place.journal.exists()


def _serving(runner: subprocess.Popen[str]) -> None:
    assert runner.stdout is not None
    for line in runner.stdout:
        if "serving on" in line:
            return
    raise AssertionError("it ended before it served")


def test_as_a_process_it_serves_until_ctrl_c_and_a_killed_one_leaves_nothing(
    place: Place,
) -> None:
    killed = place.run()
    try:
        _serving(killed)
        left = {name: place.pid(name) for name in ("gateway", "queue-worker", "sms-sandbox")}
        killed.kill()
        killed.wait(5)
        assert process.wait_until(
            lambda: not any(process.is_alive(pid) for pid in left.values()), within_s=10
        ), "children notice that their parent has gone"
        runner = place.run()
        _serving(runner)
        runner.send_signal(signal.SIGINT)
        said, _ = runner.communicate(timeout=30)
        assert runner.returncode == 0, said
        assert "once more to hurry" in said
        assert not list((place.home / "run").glob("*.pid"))
    finally:
        killed.kill()
        killed.communicate()


def test_wrong_settings_are_code_2_and_all_told(place: Place) -> None:
    runner = place.run(LOG_LEVEL="LOUD", REDIS_URL="hunter2")
    said, _ = runner.communicate(timeout=30)
    assert runner.returncode == 2
    assert "error: LOG_LEVEL: " in said
    assert "error: REDIS_URL: " in said
    assert "hunter2" not in said
    assert not place.journal.exists()
