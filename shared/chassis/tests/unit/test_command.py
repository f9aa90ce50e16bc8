"""The verbs: exit codes, and what is printed."""

import json
from pathlib import Path

import pytest
from aiohttp import web

from chassis import command, runner
from chassis.settings import Settings
from chassis.web.app import Operation

GOOD = {"DATABASE_URL": "postgresql://u:hunter2@db/x", "SERVICE_KEY": "hunter2",
        "SERVICE_KEYS_DIR": "/keys"}  # fmt: skip


async def handler(_request: web.Request) -> web.Response:
    return web.Response()


def create(_settings: Settings) -> web.Application:
    return web.Application()


SERVICE = command.Service(
    name="queue-service",
    version="1",
    processes={"api": (Settings, create), "worker": (Settings, create)},
    migrations=Path("/none"),
    operations=[
        Operation(method="GET", path="/v1/jobs", handler=handler, summary="list", scope="read")
    ],
)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize("verb", ["api", "check-config", "migrate"])
def test_a_wrong_environment_is_code_2_and_says_why(
    environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    environ.delenv("DATABASE_URL")
    assert command.main(SERVICE, [verb]) == 2
    said = capsys.readouterr()
    assert "queue-service: DATABASE_URL: " in said.err
    assert "hunter2" not in said.out + said.err


@pytest.mark.usefixtures("environ")
def test_check_config_shows_every_process_without_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(SERVICE, ["check-config"]) == 0
    said = capsys.readouterr().out
    assert said.count('"database_url": "**********"') == 2
    assert "hunter2" not in said


def test_openapi_needs_no_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(SERVICE, ["openapi"]) == 0
    assert "/v1/jobs" in json.loads(capsys.readouterr().out)["paths"]


@pytest.mark.parametrize(("verb", "name"), [("api", "queue-service"), ("worker", "queue-worker")])
def test_a_process_runs_under_its_own_name_and_its_code_is_ours(
    environ: pytest.MonkeyPatch, verb: str, name: str
) -> None:
    called: list[str] = []

    def run(_create: object, _settings: Settings, *, service: str) -> int:
        called.append(service)
        return 1

    environ.setattr(runner, "run", run)
    assert command.main(SERVICE, [verb]) == 1
    assert called == [name]


@pytest.mark.usefixtures("environ")
def test_an_unknown_verb_is_told_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(SERVICE, ["fly"])
    assert ended.value.code == 2
    assert "check-config" in capsys.readouterr().err
