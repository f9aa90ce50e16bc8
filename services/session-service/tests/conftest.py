"""A session-service of the test's own, called over HTTP as the gateway calls it."""

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

from chassis import crypto
from chassis.kernel.clock import Clock
from session_service.__main__ import MIGRATIONS
from session_service.app import create_app
from session_service.settings import SessionSettings
from testkit.databases import Databases

READER = frozenset({"sessions:read"})
WRITER = frozenset({"sessions:read", "sessions:write"})
ALL = frozenset({"sessions:read", "sessions:write", "tokens:read"})
KEYS = f"k1:{crypto.new_key()}"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    raw: bytes

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)


@dataclass(frozen=True)
class Service:
    """`call` sends what a gateway would send for an API key with these scopes and this shop."""

    app: web.Application
    url: str
    http: aiohttp.ClientSession
    minter: crypto.Minter

    async def call(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        scopes: frozenset[str] = ALL,
        shop: str | None = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> Reply:
        token = self.minter.mint("session-service", key_id="k", shop=shop, scopes=scopes)
        said = {"Authorization": f"Bearer {token}", **(headers or {})}
        data = _body(value, raw)
        if data is not None:
            said["Content-Type"] = "application/json"
        async with self.http.request(
            method, URL(self.url + path, encoded=True), data=data, headers=said
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())


def _body(value: Any, raw: bytes | None) -> io.BytesIO | None:
    if raw is None and value is None:
        return None
    return io.BytesIO(orjson.dumps(value) if raw is None else raw)


StartService = Callable[..., Awaitable[Service]]


@pytest_asyncio.fixture
async def database(make_database: Databases) -> str:
    return await make_database(MIGRATIONS)


@pytest.fixture
def gateway(tmp_path: Path) -> crypto.Minter:
    """Its public key is in `tmp_path`, where the service looks for it."""
    private, public = crypto.new_service_key()
    (tmp_path / "gateway.pub").write_text(public)
    return crypto.Minter(service="gateway", private_key_pem=private)


@pytest_asyncio.fixture
async def start(
    database: str, gateway: crypto.Minter, tmp_path: Path
) -> AsyncIterator[StartService]:
    """Start a replica; those of one test share the database and the keys unless it says else."""
    async with AsyncExitStack() as stack:

        async def begin(*, clock: Clock | None = None, **settings: Any) -> Service:
            given = {"database_url": database, "session_keys": KEYS, **settings}
            model = SessionSettings.model_validate(
                {"service_key": "unused", "service_keys_dir": tmp_path, **given}
            )
            app = create_app(model, clock=clock)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            http = await stack.enter_async_context(aiohttp.ClientSession())
            host, port = runner.addresses[0][:2]
            return Service(app, f"http://{host}:{port}", http, gateway)

        yield begin


@pytest_asyncio.fixture
async def service(start: StartService) -> Service:
    return await start()
