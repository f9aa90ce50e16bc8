# ruff: noqa: INP001 - it serves sdk/python and sdk/js
"""For the clients: real services, where a service token stands for an API key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from aiohttp import web

from chassis import crypto
from chassis.web import health
from mainstay.client import Client
from testkit.databases import Databases
from testkit.shopify.server import MockShopify
from testkit.signals import eventually


@dataclass(frozen=True)
class Service:
    """One that is named as an audience, called by whoever holds these scopes."""

    name: str
    scopes: frozenset[str]
    url: str
    minter: crypto.Minter

    @property
    def key(self) -> str:
        """Good for a minute."""
        return self.minter.mint(self.name, key_id="k", shop=None, scopes=self.scopes)

    def client(self, url: str | None = None, **options: float) -> Client:
        return Client(url or self.url, self.key, **options)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Its address, once it is ready."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        app[health.HEALTH].started()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await eventually(lambda: app[health.HEALTH].ready, within_s=20)
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest_asyncio.fixture
async def limit_service(
    make_database: Databases, gateway: crypto.Minter, tmp_path: Path
) -> AsyncIterator[Service]:
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
    scopes = frozenset({"ratelimits:check", "ratelimits:admin"})
    async with serving(create_app(settings)) as url:
        yield Service("ratelimit-service", scopes, url, gateway)


@pytest_asyncio.fixture
async def session_service(
    make_database: Databases, gateway: crypto.Minter, tmp_path: Path, shopify: MockShopify
) -> AsyncIterator[Service]:
    """Of an app at the test's own Shopify."""
    from session_service.__main__ import MIGRATIONS
    from session_service.app import create_app
    from session_service.settings import SessionSettings

    settings = SessionSettings.model_validate(
        {
            "service_keys_dir": tmp_path,
            "service_key": "a secret",
            "database_url": await make_database(MIGRATIONS),
            "session_keys": f"k1:{crypto.new_key()}",
            "shopify_api_key": shopify.api_key,
            "shopify_api_secret": shopify.api_secret,
            "shopify_shop_origin": shopify.origin,
            "shopify_app_url": "https://app.example.com",
        }
    )
    scopes = frozenset({"sessions:read", "sessions:write", "tokens:read"})
    async with serving(create_app(settings)) as url:
        yield Service("session-service", scopes, url, gateway)
