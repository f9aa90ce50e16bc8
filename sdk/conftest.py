# ruff: noqa: INP001 - it serves sdk/python and sdk/js
"""For the clients: a real ratelimit-service, where a service token stands for an API key."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from aiohttp import web

from chassis import crypto
from chassis.web import health
from mainstay.client import Client
from testkit.databases import Databases
from testkit.signals import eventually


@dataclass(frozen=True)
class LimitService:
    url: str
    minter: crypto.Minter

    @property
    def key(self) -> str:
        """Good for a minute."""
        scopes = frozenset({"ratelimits:check", "ratelimits:admin"})
        return self.minter.mint("ratelimit-service", key_id="k", shop=None, scopes=scopes)

    def client(self, url: str | None = None, **options: float) -> Client:
        return Client(url or self.url, self.key, **options)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def limit_service(
    make_database: Databases, gateway: crypto.Minter, tmp_path: Path
) -> AsyncIterator[LimitService]:
    from ratelimit_service.__main__ import MIGRATIONS
    from ratelimit_service.app import create_app
    from ratelimit_service.settings import ApiSettings

    settings = ApiSettings.model_validate(
        {
            "service_keys_dir": tmp_path,
            "service_key": "a secret",
            "database_url": await make_database(MIGRATIONS),
            # Patient, so that a busy machine is not taken for a broken database.
            "ratelimit_decision_s": 2.0,
        }
    )
    app = create_app(settings)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        app[health.HEALTH].started()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await eventually(lambda: app[health.HEALTH].ready, within_s=20)
        host, port = runner.addresses[0][:2]
        yield LimitService(f"http://{host}:{port}", gateway)
    finally:
        await runner.cleanup()
