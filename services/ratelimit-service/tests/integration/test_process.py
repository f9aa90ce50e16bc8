"""The service as it is run: verbs, signals, and a kill in the middle."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chassis import crypto
from chassis.metrics import FORBIDDEN_LABELS
from localstack.servers import ports
from testkit.databases import Databases
from testkit.signals import eventually

ASKED = {"policies": ["login"], "subject": {"shop": "a.myshopify.com"}}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    private, _public = crypto.new_service_key()
    (tmp_path / "own.pem").write_text(private)
    return {
        "PORT": str(ports.free_port()),
        "OPS_PORT": str(ports.free_port()),
        "SERVICE_KEY_FILE": str(tmp_path / "own.pem"),
        "SERVICE_KEYS_DIR": str(tmp_path),
    }


@asynccontextmanager
async def running(
    verb: str, environment: dict[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ratelimit_service", verb,
            env=environment, stdout=sink, stderr=sink,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_what_was_spent_survives_kill_9_and_sigterm_ends_in_order(
    make_database: Databases, environment: dict[str, str], gateway: crypto.Minter, tmp_path: Path
) -> None:
    environment["DATABASE_URL"] = await make_database()
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{environment['PORT']}"
    async with running("migrate", environment, log) as process:
        assert await process.wait() == 0
    async with aiohttp.ClientSession() as http:

        async def check() -> Any:
            said = {"Authorization": f"Bearer {gateway.mint('ratelimit-service')}"}
            async with http.post(f"{url}/v1/ratelimits/check", json=ASKED, headers=said) as answer:
                return await answer.json()

        async def is_ready() -> bool:
            try:
                async with http.get(f"{url}/readyz") as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectorError:
                return False

        async with running("api", environment, log) as process:
            await eventually(is_ready, within_s=20)
            assert [(await check())["allowed"] for _ in range(10)] == [True] * 10
            process.kill()
            await process.wait()
        async with running("api", environment, log) as process:
            await eventually(is_ready, within_s=20)
            assert not (await check())["allowed"]
            ops = f"http://127.0.0.1:{environment['OPS_PORT']}/metrics"
            async with http.get(ops) as answer:
                exposed = await answer.text()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    wanted = 'ratelimit_decisions_total{backend="postgres",outcome="denied",policy="login"} 1.0'
    assert wanted in exposed
    assert not [label for label in FORBIDDEN_LABELS if f'{label}="' in exposed]
    assert "a.myshopify.com" not in exposed + log.read_text()


async def test_the_configuration_is_shown_without_its_secrets(
    environment: dict[str, str], tmp_path: Path
) -> None:
    environment["DATABASE_URL"] = "postgresql://nobody:hush@127.0.0.1:1/none"
    shown = tmp_path / "shown"
    async with running("check-config", environment, shown) as process:
        assert await process.wait() == 0
    said = json.loads(shown.read_text())
    assert said["database_url"] == said["service_key"] == "**********"
    assert said["ratelimit_decision_s"] == 0.25
