"""The service as it is run: verbs, signals, and a kill in the middle."""

import json
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chassis import crypto
from testkit.databases import Databases
from testkit.service import running
from testkit.signals import eventually

PACKAGE = "session_service"
ID = "offline_greek-olives.myshopify.com"
SESSION = {"id": ID, "shop": "greek-olives.myshopify.com", "accessToken": "shpat_survivor"}


@pytest.fixture
def environment(process_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    (tmp_path / "session.keys").write_text(f"k1:{crypto.new_key()}\n")
    return process_environment | {"SESSION_KEYS_FILE": str(tmp_path / "session.keys")}


async def test_a_session_survives_kill_9(
    make_database: Databases, environment: dict[str, str], gateway: crypto.Minter, tmp_path: Path
) -> None:
    environment["DATABASE_URL"] = await make_database()
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{environment['PORT']}"
    async with running(PACKAGE, "migrate", environment, log) as process:
        assert await process.wait() == 0
    async with aiohttp.ClientSession() as http:

        async def call(method: str, value: Any = None) -> tuple[int, Any]:
            token = gateway.mint("session-service", scopes=frozenset({"admin"}))
            said = {"Authorization": f"Bearer {token}"}
            async with http.request(
                method, f"{url}/v1/sessions/{ID}", json=value, headers=said
            ) as answer:
                return answer.status, await answer.json()

        async def is_ready() -> bool:
            try:
                async with http.get(f"{url}/readyz") as answer:
                    return answer.status == 200
            except aiohttp.ClientConnectorError:
                return False

        async with running(PACKAGE, "api", environment, log) as process:
            await eventually(is_ready, within_s=20)
            assert (await call("PUT", SESSION))[0] == 200
            process.kill()
            await process.wait()
        async with running(PACKAGE, "api", environment, log) as process:
            await eventually(is_ready, within_s=20)
            assert await call("GET") == (200, SESSION)
            ops = f"http://127.0.0.1:{environment['OPS_PORT']}/metrics"
            async with http.get(ops) as answer:
                assert "session_cleanup_deleted_total" in await answer.text()
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert "shpat_survivor" not in log.read_text()


async def test_keys_that_cannot_be_used_stop_the_start_and_are_not_shown(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "session.keys").write_text("k1:c2hvcnQ=")
    environment["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    log = tmp_path / "log"
    async with running(PACKAGE, "check-config", environment, log) as process:
        assert await process.wait() == 2
    assert "SESSION_KEYS" in log.read_text()
    assert "c2hvcnQ" not in log.read_text()
    (tmp_path / "session.keys").write_text(f"k1:{crypto.new_key()}")
    shown = tmp_path / "shown"
    async with running(PACKAGE, "check-config", environment, shown) as process:
        assert await process.wait() == 0
    assert json.loads(shown.read_text())["session_keys"] == "**********"
