"""A queue-service of the test's own, called over HTTP as the gateway calls it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from aiohttp import web

from chassis import crypto, postgres
from chassis.kernel.clock import Clock
from chassis.web import health
from queue_service.__main__ import MIGRATIONS
from queue_service.app import create_app
from queue_service.core.attempts import Settlement, Status, Verb
from queue_service.settings import ApiSettings
from queue_service.store.engine import EngineStore
from queue_service.store.enqueue import EnqueueWriter
from testkit.databases import Databases
from testkit.service import Served
from testkit.signals import eventually

ALL = frozenset({"jobs:read", "jobs:write", "queues:admin"})


@dataclass(frozen=True, kw_only=True)
class Service(Served):
    name = "queue-service"
    scopes = ALL
    dsn: str

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """What the tables say, or a worker of few words."""
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            await postgres.use_json(connection)
            rows: list[asyncpg.Record] = await connection.fetch(sql, *args, timeout=10)
            return rows
        finally:
            await connection.close(timeout=5)

    async def count(self) -> int:
        """Jobs anywhere."""
        return int((await self.fetch("select count(*) from any_job"))[0][0])

    async def settle(self, *job_ids: str, state: str = Verb.COMPLETED) -> None:
        """Run jobs as a worker would."""
        await self.fetch(
            "update queue_job set state = 'running', lease_no = 1 where id = any($1)", job_ids
        )
        database = await postgres.open_database(self.dsn, size=1, application="test")
        settled = await EngineStore(database).settle(
            [Settlement(id=UUID(one), lease_no=1, verb=Verb(state)) for one in job_ids]
        )
        await database.close()
        assert set(settled) == {Status.SETTLED}


StartService = Callable[..., Awaitable[Service]]


@pytest_asyncio.fixture
async def dsn(make_database: Databases) -> str:
    return await make_database(MIGRATIONS)


@pytest_asyncio.fixture
async def start(dsn: str, gateway: crypto.Minter, tmp_path: Path) -> AsyncIterator[StartService]:
    """Start a replica; those of one test share the database and the keys unless it says else."""
    private, _ = crypto.new_service_key()
    async with AsyncExitStack() as stack:

        async def begin(
            *, clock: Clock | None = None, handlers: Any = None, **settings: Any
        ) -> Service:
            given = {"database_url": dsn, "service_key": private, **settings}
            model = ApiSettings.model_validate({"service_keys_dir": tmp_path, **given})
            app = create_app(model, clock=clock, handlers=handlers)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            http = await stack.enter_async_context(aiohttp.ClientSession())
            host, port = runner.addresses[0][:2]
            await eventually(lambda: app[health.HEALTH].unready_because() is None)
            return Service(app=app, url=f"http://{host}:{port}", http=http, minter=gateway, dsn=dsn)

        yield begin


@pytest_asyncio.fixture
async def service(start: StartService) -> Service:
    return await start()


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[postgres.Database]:
    opened = await postgres.open_database(dsn, size=6, application="test")
    yield opened
    await opened.close()


@pytest.fixture
def writer(database: postgres.Database) -> EnqueueWriter:
    return EnqueueWriter(database)
