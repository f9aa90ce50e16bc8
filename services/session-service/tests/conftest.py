"""A session-service of the test's own, called over HTTP as the gateway calls it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from aiohttp import web

from chassis import crypto
from chassis.kernel.clock import Clock
from session_service.__main__ import MIGRATIONS
from session_service.app import create_app
from session_service.settings import SessionSettings
from testkit.databases import Databases
from testkit.service import Served

READER = frozenset({"sessions:read"})
WRITER = frozenset({"sessions:read", "sessions:write"})
ALL = frozenset({"sessions:read", "sessions:write", "tokens:read"})
KEYS = f"k1:{crypto.new_key()}"


class Service(Served):
    name = "session-service"
    scopes = ALL


StartService = Callable[..., Awaitable[Service]]


@pytest_asyncio.fixture
async def database(make_database: Databases) -> str:
    return await make_database(MIGRATIONS)


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
            return Service(app=app, url=f"http://{host}:{port}", http=http, minter=gateway)

        yield begin


@pytest_asyncio.fixture
async def service(start: StartService) -> Service:
    return await start()
