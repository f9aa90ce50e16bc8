"""The service as it is run: verbs, signals, and a kill in the middle."""

import json
import signal
from pathlib import Path
from typing import Any

import aiohttp

from chassis import crypto
from chassis.metrics import FORBIDDEN_LABELS
from testkit.databases import Databases
from testkit.service import running
from testkit.signals import eventually

PACKAGE = "ratelimit_service"
ASKED = {"policies": ["login"], "subject": {"shop": "a.myshopify.com"}}


async def test_what_was_spent_survives_kill_9_and_sigterm_ends_in_order(
    make_database: Databases,
    process_environment: dict[str, str],
    gateway: crypto.Minter,
    tmp_path: Path,
) -> None:
    process_environment["DATABASE_URL"] = await make_database()
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{process_environment['PORT']}"
    async with running(PACKAGE, "migrate", process_environment, log) as process:
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

        async with running(PACKAGE, "api", process_environment, log) as process:
            await eventually(is_ready, within_s=20)
            assert [(await check())["allowed"] for _ in range(10)] == [True] * 10
            process.kill()
            await process.wait()
        async with running(PACKAGE, "api", process_environment, log) as process:
            await eventually(is_ready, within_s=20)
            assert not (await check())["allowed"]
            ops = f"http://127.0.0.1:{process_environment['OPS_PORT']}/metrics"
            async with http.get(ops) as answer:
                exposed = await answer.text()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    wanted = 'ratelimit_decisions_total{backend="postgres",outcome="denied",policy="login"} 1.0'
    assert wanted in exposed
    assert not [label for label in FORBIDDEN_LABELS if f'{label}="' in exposed]
    assert "a.myshopify.com" not in exposed + log.read_text()


async def test_the_configuration_is_shown_without_its_secrets(
    process_environment: dict[str, str], tmp_path: Path
) -> None:
    process_environment["DATABASE_URL"] = "postgresql://nobody:hush@127.0.0.1:1/none"
    shown = tmp_path / "shown"
    async with running(PACKAGE, "check-config", process_environment, shown) as process:
        assert await process.wait() == 0
    said = json.loads(shown.read_text())
    assert said["database_url"] == said["service_key"] == "**********"
    assert said["ratelimit_decision_s"] == 0.25
