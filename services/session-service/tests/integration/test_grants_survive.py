"""A process that asks Shopify for a new pair is killed, or stands still, after Shopify gave it."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from chassis import crypto
from session_service.app import DATABASE, GRANTS, SETTINGS
from testkit.service import running
from testkit.shopify.apps import is_live, session, settings
from testkit.shopify.faults import Fault
from testkit.shopify.rules import Retry
from testkit.shopify.server import MockShopify
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
ID = f"offline_{SHOP}"
TOKEN = f"/v1/shops/{SHOP}/token"
ADMIN = frozenset({"admin"})


@pytest.mark.parametrize(
    ("blow", "retry"), [(signal.SIGKILL, Retry.SAME_PAIR), (signal.SIGSTOP, Retry.NEW_PAIR)]
)
async def test_another_replica_brings_the_shop_back(
    start: Any,
    shopify: MockShopify,
    database: str,
    process_environment: dict[str, str],
    gateway: crypto.Minter,
    tmp_path: Path,
    blow: signal.Signals,
    retry: Retry,
) -> None:
    shopify.rules.retry = retry
    given = settings(shopify)
    other = await start(**given)
    answer = await other.call("PUT", f"/v1/sessions/{ID}", session(shopify, SHOP, left_s=0))
    assert answer.status == 200, answer.raw
    environment = process_environment | {
        "DATABASE_URL": database,
        "SESSION_KEYS": other.app[SETTINGS].session_keys.get_secret_value(),
        **{name.upper(): value for name, value in given.items()},
    }
    thawed = asyncio.Event()
    shopify.faults.add(Fault(after=True, hold=thawed))
    bearer = {"Authorization": f"Bearer {gateway.mint('session-service', scopes=ADMIN)}"}
    url = f"http://127.0.0.1:{environment['PORT']}{TOKEN}"

    async def ask() -> int:
        async with aiohttp.ClientSession() as http, http.get(url, headers=bearer) as reply:
            return reply.status

    async def has_asked() -> bool:
        if not shopify.called("token"):
            asking.append(asyncio.create_task(ask()))
            await asyncio.wait(asking[-1:], timeout=0.2)
        return bool(shopify.called("token"))

    asking: list[asyncio.Task[int]] = []
    async with running("session_service", "api", environment, tmp_path / "log") as process:
        await eventually(has_asked, within_s=20)
        process.send_signal(blow)
        await lease_ends(other)
        answer = await other.get(TOKEN)
        assert answer.status == 200, answer.raw
        if blow is signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
        thawed.set()
        await asyncio.wait(asking, timeout=10)
    for done in asking:
        assert done.exception() is not None or done.result() in (200, 503)
    held = await other.app[GRANTS]._find(ID)
    assert held.session.tokens.access == answer.body["access_token"]
    assert is_live(shopify, held.session.document(with_secrets=True))


async def lease_ends(service: Any) -> None:
    """By itself within six seconds, which are passed over here."""
    left = "select max(extract(epoch from until - clock_timestamp()))::float from grant_lease"
    assert 0 < await service.app[DATABASE].fetchval(left) <= 6
    await service.app[DATABASE].execute("update grant_lease set until = clock_timestamp()")
