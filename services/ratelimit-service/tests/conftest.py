"""A ratelimit-service of the test's own, called over HTTP as the gateway calls it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio
from aiohttp import web

from chassis import crypto
from chassis.web import health
from ratelimit_service.__main__ import MIGRATIONS
from ratelimit_service.app import create_app
from ratelimit_service.settings import ApiSettings
from testkit.databases import Databases
from testkit.service import Reply, Served
from testkit.signals import eventually

PREFIX = "/v1/ratelimits"
CHECK = frozenset({"ratelimits:check"})
ALL = frozenset({"ratelimits:check", "ratelimits:admin"})


@dataclass(frozen=True, kw_only=True)
class Service(Served):
    """Paths are below PREFIX."""

    name = "ratelimit-service"
    scopes = ALL
    stop: Callable[[], Awaitable[None]]

    async def call(self, method: str, path: str, value: Any = None, **how: Any) -> Reply:
        return await super().call(method, PREFIX + path, value, **how)

    async def check(self, *policies: str, **asked: Any) -> Any:
        reply = await self.call("POST", "/check", {"policies": policies, **asked})
        assert reply.status == 200, reply.raw
        return reply.body

    async def put(self, name: str, **spec: Any) -> Any:
        reply = await self.call("PUT", f"/policies/{name}", spec)
        assert reply.status == 200, reply.raw
        return reply.body

    async def road(self) -> str:
        async with self.http.get(f"{self.url}/healthz") as answer:
            road: str = (await answer.json())["limits"]
            return road


StartService = Callable[..., Awaitable[Service]]


@pytest_asyncio.fixture
async def start(
    make_database: Databases, gateway: crypto.Minter, tmp_path: Path
) -> AsyncIterator[StartService]:
    """Start a replica; those of one test share the database unless it says else."""
    async with AsyncExitStack() as stack:
        shared: list[str] = []

        async def begin(**settings: Any) -> Service:
            if "database_url" not in settings:
                if not shared:
                    shared.append(await make_database(MIGRATIONS))
                settings["database_url"] = shared[0]
            # Patient, so that a busy machine is not taken for a broken database.
            given = {"ratelimit_decision_s": 2.0, "service_key": "a secret", **settings}
            model = ApiSettings.model_validate({"service_keys_dir": tmp_path, **given})
            app = create_app(model)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            app[health.HEALTH].started()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            http = await stack.enter_async_context(aiohttp.ClientSession())
            host, port = runner.addresses[0][:2]
            service = Service(
                app=app,
                url=f"http://{host}:{port}",
                http=http,
                minter=gateway,
                stop=runner.cleanup,
            )
            await eventually(lambda: app[health.HEALTH].ready, within_s=20)
            return service

        yield begin


@pytest_asyncio.fixture
async def service(start: StartService) -> Service:
    return await start()
