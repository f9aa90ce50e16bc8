"""`make run`, `make serve`, `make demo`: what a person at a terminal is promised."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from localstack.servers import process
from testkit.shared_servers import Run
from testkit.stack import StackProcess

PROCESSES = (
    "postgres",
    "gateway",
    "queue-service",
    "queue-worker",
    "session-service",
    "ratelimit-service",
)


@pytest.fixture
def home(run: Run, request: pytest.FixtureRequest) -> Path:
    return run.folder / request.node.name


def test_the_demo_sends_everybody_one_message_twice_in_a_row(home: Path) -> None:
    demo = StackProcess(home, verb="demo")
    demo.launch()
    assert demo.wait(within_s=170) == 0, demo.printed
    assert re.search(r"\d{3} messages to \d{3} recipients", demo.printed)
    assert "every recipient has exactly one message" in demo.printed
    assert "on_complete: campaign.report completed" in demo.printed
    assert "redis: absent" in demo.printed
    assert "rabbitmq: absent" in demo.printed
    assert f"admin key: {home}/admin.key" in demo.printed
    assert 'curl -H "Authorization: Bearer' in demo.printed
    assert re.search(r"line \d+: .*number", demo.printed), "no wrong row was reported"
    key = demo.admin_key
    again = StackProcess(home, verb="demo")
    again.launch()
    assert again.wait(within_s=60) == 0, again.printed
    assert again.admin_key == key
    assert not list((home / "run").glob("*.pid"))


def test_ctrl_c_drains_and_exits_0_and_the_next_run_finds_its_data(home: Path) -> None:
    with StackProcess(home) as first:
        pids = {name: first.pid(name) for name in PROCESSES}
        assert oct((home / "admin.key").stat().st_mode & 0o777) == "0o600"
        assert oct((home / "postgres" / "data").stat().st_mode & 0o777) in ("0o700", "0o750")
        job = _post_job(first)
        assert first.stop(signal.SIGINT) == 0, first.printed
    assert not any(process.is_alive(pid) for pid in pids.values())
    with StackProcess(home) as second:
        assert _get(second, f"/v1/jobs/{job}")["id"] == job


def test_two_homes_run_side_by_side_and_one_home_only_once(home: Path) -> None:
    with StackProcess(home) as one, StackProcess(home.with_name("other")) as other:
        assert one.admin_key != other.admin_key
        intruder = StackProcess(home)
        intruder.launch()
        assert intruder.wait(within_s=30) == 1
        assert "in use" in intruder.printed
        assert _get(one, "/v1/queues")["items"]


def test_when_the_runner_is_killed_its_children_end_within_10_s(home: Path) -> None:
    with StackProcess(home) as stack:
        pids = [stack.pid(name) for name in PROCESSES]
        os.kill(stack._running().pid, signal.SIGKILL)
        stack._running().wait(5)
        assert process.wait_until(
            lambda: not any(process.is_alive(pid) for pid in pids), within_s=10
        )
    with StackProcess(home) as again:
        assert _get(again, "/v1/queues")["items"]


def test_every_fault_of_the_environment_is_told_at_once(home: Path) -> None:
    environ = {"TWILIO_BASE_URL": "http://example.com", "DRAIN_TIMEOUT_S": "soon"}
    stack = StackProcess(home, environ=environ)
    stack.launch()
    assert stack.wait(within_s=30) == 2
    assert "TWILIO_BASE_URL" in stack.printed
    assert "DRAIN_TIMEOUT_S" in stack.printed
    assert not home.exists()


def _post_job(stack: StackProcess) -> str:
    return str(_curl(stack, "-X", "POST", "/v1/jobs", "-d", '{"kind": "campaign.report"}')["id"])


def _get(stack: StackProcess, path: str) -> dict[str, object]:
    return _curl(stack, path)


def _curl(stack: StackProcess, *words: str) -> dict[str, object]:
    """As the README shows it, by Python where there is no curl."""
    import json
    import urllib.request

    path = next(word for word in words if word.startswith("/"))
    data = words[words.index("-d") + 1].encode() if "-d" in words else None
    request = urllib.request.Request(
        stack.gateway_url + path,
        data=data,
        headers={
            "Authorization": f"Bearer {stack.admin_key}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def test_tools_run_hands_over_to_the_runner() -> None:
    """The shell part, down to the runner's own refusal of an unknown verb."""
    done = subprocess.run(
        ["sh", "tools/run", "fly"], capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 2
    assert "fly" in done.stderr
