"""A gateway on a real database, before owners that speak the contract over real HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yarl
from aiohttp import web

from chassis.web import health
from gateway import testing
from gateway.__main__ import MIGRATIONS
from gateway.app import create_app
from gateway.settings import GatewaySettings

# The default renders tracebacks with every local variable, which holds up the loop for seconds.
ADMIN_KEY = "test-admin-key-0123456789-0123456789"


@dataclass
class Gateway:
    """A running gateway and a caller of it."""

    app: web.Application
    url: str
    session: aiohttp.ClientSession
    owners: testing.Owners
    dsn: str
    stop: Callable[[], Awaitable[None]]

    def ask(
        self, method: str, path: str | yarl.URL, *, key: str | None = ADMIN_KEY, **more: Any
    ) -> Any:
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        target = yarl.URL(self.url + str(path), encoded=True)
        return self.session.request(method, target, headers=headers, **more)

    async def tell(self, method: str, path: str | yarl.URL, **more: Any) -> tuple[int, Any, Any]:
        """(status, body, headers)."""
        async with self.ask(method, path, **more) as response:
            content = response.content_type
            body = await response.json() if "json" in content else await response.text()
            return response.status, body, response.headers

    async def key(self, *scopes: str, shop: str | None = None, **more: Any) -> str:
        wanted = {"name": "test", "scopes": list(scopes), "shop": shop, **more}
        status, body, _ = await self.tell("POST", "/v1/keys", json=wanted)
        assert status == 201, body
        return str(body["key"])


MakeGateway = Callable[..., Awaitable[Gateway]]


@pytest_asyncio.fixture
async def owners(tmp_path: Path) -> AsyncIterator[testing.Owners]:
    async with testing.owners(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def make_gateway(owners: testing.Owners, make_database: Any) -> AsyncIterator[MakeGateway]:
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> Gateway:
            dsn = settings.pop("database_url", None) or await make_database(MIGRATIONS)
            return await stack.enter_async_context(_running(owners, dsn, settings))

        yield make


@pytest_asyncio.fixture
async def gateway(make_gateway: MakeGateway) -> Gateway:
    return await make_gateway()


@asynccontextmanager
async def _running(
    owners: testing.Owners, dsn: str, settings: dict[str, Any]
) -> AsyncIterator[Gateway]:
    loaded = GatewaySettings.model_validate(
        {
            "database_url": dsn,
            "service_key": owners.keys.private["gateway"],
            "service_keys_dir": owners.keys.folder,
            "mainstay_admin_key": ADMIN_KEY,
            "queue_service_url": owners.queue.url,
            "session_service_url": owners.session.url,
            "ratelimit_service_url": owners.ratelimit.url,
            **settings,
        }
    )
    app = create_app(loaded, owners.documents())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, auto_decompress=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        app[health.HEALTH].started()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as session:
            yield Gateway(app, url, session, owners, dsn, runner.cleanup)
    finally:
        await runner.cleanup()


@pytest.fixture
def job() -> dict[str, Any]:
    return {"kind": "sms.send", "queue": "sms", "args": {"to": "+306912345678", "body": "Γειά"}}
