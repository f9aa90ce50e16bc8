"""One set of cases for every way to run a job: pulled over HTTP, pushed to a URL, in the worker.

Each way runs with Postgres alone and with Redis; nothing that a case sees may differ.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from chassis import crypto
from localstack.servers.postgres import PostgresServer
from mainstay import handler
from mainstay.answers import Job
from mainstay.client import Client, new_id
from mainstay.worker import Worker
from queue_service import worker
from queue_service.__main__ import MIGRATIONS
from queue_service.app import create_app
from queue_service.settings import ApiSettings, WorkerSettings
from testkit.databases import Databases
from testkit.shared_servers import Run
from testkit.signals import eventually

KEYS = f"k1:{crypto.new_key()}"
LOOPBACK = "127.0.0.0/8"
RETRY = {"base_s": 0.05, "factor": 1.0, "max_s": 0.05, "jitter": 0.0}
SCOPES = frozenset({"jobs:read", "jobs:write", "queues:admin"})


@dataclass(frozen=True)
class Way:
    """How jobs run, and whether Redis helps."""

    runs: str
    dispatch: str = "postgres"

    @property
    def is_python(self) -> bool:
        """With a Context: marks, progress, every outcome."""
        return self.runs != "push"

    def __str__(self) -> str:
        return f"{self.runs}-{self.dispatch}"


ALL = (
    Way("pull"),
    Way("push"),
    Way("in_process"),
    Way("pull", "redis"),
    Way("in_process", "redis"),
)


@dataclass
class Pushed:
    """As much of a Context as an app behind a URL has."""

    job: handler.JobInfo
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class House:
    """A service that the cases of a way share."""

    way: Way
    url: str
    minter: crypto.Minter
    settings: dict[str, Any]

    def client(self) -> Client:
        """Its token is good for a minute."""
        token = self.minter.mint("queue-service", key_id="k", scopes=SCOPES)
        return Client(self.url, token, attempts=4)


@dataclass
class Rig:
    house: House
    queue: str
    client: Client
    stack: AsyncExitStack
    _stops: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @property
    def way(self) -> Way:
        return self.house.way

    async def run(self, *handlers: handler.Handler[Any], drain_s: float = 5.0) -> None:
        """Begin to run jobs of these kinds, three at a time unless the queue says else."""
        queue = await self.client.get_queue(self.queue)
        if self.way.runs == "pull":
            await self._pull(handlers, queue.concurrency, drain_s)
        elif self.way.runs == "push":
            await self._push(handlers, drain_s)
        else:
            await self._work(handlers, drain_s)

    async def stop(self) -> None:
        """As SIGTERM does; returns when it has ended."""
        while self._stops:
            await self._stops.pop()()

    async def put_queue(self, **settings: Any) -> None:
        await self.client.put_queue(self.queue, **settings)

    async def enqueue(self, kind: str = "test", **said: Any) -> str:
        """The job's id."""
        args = said.pop("args", {})
        return str((await self.client.enqueue(kind, args, queue=self.queue, **said)).id)

    async def reaches(self, job_id: str, *states: str, within_s: float = 15.0) -> Job:
        async def there() -> Job | None:
            job = await self.client.get_job(job_id)
            assert job.state in states, (job.state, job.errors)
            return job

        found = await eventually(there, within_s)
        assert found is not None
        return found

    async def take_lease_away(self, job_id: str) -> None:
        """What happens to a worker that is frozen for too long."""
        async with self.connection() as connection:
            if self.way.runs == "pull":
                await connection.execute(
                    "update queue_job set lease_until = clock_timestamp() where id = $1", job_id
                )
            else:
                await connection.execute("delete from worker")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """To play the bad day, never to look."""
        connection = await asyncpg.connect(self.house.settings["database_url"], timeout=10)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    async def _pull(
        self, handlers: tuple[handler.Handler[Any], ...], concurrency: int, drain_s: float
    ) -> None:
        one = Worker(
            self.client, self.queue, handlers, concurrency=concurrency, lease_s=3, drain_s=drain_s
        )
        task = asyncio.create_task(one.run())

        async def stop() -> None:
            one.stop()
            await task

        self._stops.append(stop)

    async def _push(self, handlers: tuple[handler.Handler[Any], ...], drain_s: float) -> None:
        known = handler.registry(handlers)
        app = web.Application()

        async def serve(request: web.Request) -> web.Response:
            return await _served(known[request.match_info["kind"]], request)

        app.router.add_post("/{kind}", serve)
        server = await self.stack.enter_async_context(TestServer(app, host="127.0.0.1"))
        for kind, one in known.items():
            url = str(server.make_url(f"/{kind}"))
            await self.client.put_handler(kind, url, timeout_s=max(1.0, one.timeout_s))
        await self._work((), drain_s)

    async def _work(self, handlers: tuple[handler.Handler[Any], ...], drain_s: float) -> None:
        model = WorkerSettings.model_validate(self.house.settings | {"drain_timeout_s": drain_s})
        app = worker.create_app(model, handlers=handler.registry(handlers))
        runner = web.AppRunner(app)
        self._stops.append(runner.cleanup)
        await runner.setup()


async def _served(of: handler.Handler[Any], request: web.Request) -> web.Response:
    """A handler behind a URL: what it returns or raises, in HTTP."""
    said = await request.json()
    job = handler.JobInfo(id=said["id"], kind=said["kind"], attempt=said["attempt"])
    ctx: Any = Pushed(job)
    try:
        outcome = await of.run(said["args"], ctx)
    except asyncio.CancelledError:
        ctx.cancelled.set()
        raise
    except Exception as error:  # noqa: BLE001 - a web framework's 500
        return web.Response(status=500, text=str(error))
    if isinstance(outcome, handler.Snooze):
        return web.Response(status=503, headers={"Retry-After": str(int(outcome.delay_s))})
    assert isinstance(outcome, handler.Completed)
    return web.json_response(outcome.result)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def house(
    request: pytest.FixtureRequest, run: Run, postgres_server: PostgresServer
) -> AsyncIterator[House]:
    way: Way = request.param
    own = run.folder / f"conformance-{way}-{os.getpid()}"
    own.mkdir(exist_ok=True)
    (gateway_key, gateway_pub), (service_key, _) = (
        crypto.new_service_key(),
        crypto.new_service_key(),
    )
    (own / "gateway.pub").write_text(gateway_pub)
    databases = Databases(run, postgres_server)
    dsn = await databases(MIGRATIONS)
    settings = {
        "database_url": dsn,
        "service_key": service_key,
        "service_keys_dir": own,
        "ratelimit_service_url": "http://127.0.0.1:9",
        "queue_poll_interval_s": 0.1,
        "queue_keys": KEYS,
        "egress_allowed_networks": LOOPBACK,
        "redis_url": run.redis().database_url(0) if way.dispatch == "redis" else None,
    }
    runner = web.AppRunner(create_app(ApiSettings.model_validate(settings), handlers={}))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    minter = crypto.Minter(service="gateway", private_key_pem=gateway_key)
    yield House(way, f"http://{host}:{port}", minter, settings)
    await runner.cleanup()
    await databases.drop_all()


@pytest_asyncio.fixture(loop_scope="session")
async def rig(house: House) -> AsyncIterator[Rig]:
    """A queue of the test's own."""
    async with AsyncExitStack() as stack, house.client() as client:
        made = Rig(house, f"q-{new_id()}", client, stack)
        served_by = "pull" if house.way.runs == "pull" else "worker"
        await made.put_queue(served_by=served_by, concurrency=3, retry=RETRY, max_attempts=3)
        yield made
        await made.stop()
        await made.client.pause_queue(made.queue)


def ways(*, python_only: bool = False, only: str | None = None) -> Any:
    chosen = [
        pytest.param(way, id=str(way), marks=pytest.mark.long if way.dispatch == "redis" else ())
        for way in ALL
        if (way.is_python or not python_only) and only in (None, way.runs)
    ]
    return pytest.mark.parametrize("house", chosen, indirect=True, scope="session")
