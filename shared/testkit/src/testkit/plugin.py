"""Fixtures for every test of the workspace: real servers, shared by a run or for one test alone.

Nothing starts before a test asks for it. A server that cannot be had fails the test.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import redis
import structlog

from localstack.home import ROOT
from localstack.servers.pgbouncer import PgBouncerServer
from localstack.servers.postgres import PostgresServer
from localstack.servers.rabbit import RabbitServer
from localstack.servers.redis import RedisServer
from testkit import node as nodes
from testkit.clock import FakeClock
from testkit.databases import Databases
from testkit.shared_servers import Run

if TYPE_CHECKING:  # a third of a second that most runs do not need
    from testkit.shopify.server import MockShopify

RUN = pytest.StashKey[Run]()
VHOST_BATCH = 8
SESSION_STORAGE = ROOT / "sdk" / "js" / "session-storage"
WORKER_INPUT = "mainstay_run"


def pytest_configure(config: pytest.Config) -> None:
    # The library's own tracebacks show every local variable, for seconds, on the event loop.
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ]
    )
    given = getattr(config, "workerinput", None)
    if given is None:
        config.stash[RUN] = Run.begin()
    else:
        config.stash[RUN] = Run(Path(given[WORKER_INPUT]))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: a worker is about to start; it shares the controller's run."""
    node.workerinput[WORKER_INPUT] = str(node.config.stash[RUN].folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        config.stash[RUN].end()


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest) -> Run:
    return request.config.stash[RUN]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def node() -> str:
    """The program, Node 20 or newer."""
    return nodes.find().program


@pytest.fixture(scope="session")
def shopify_packages() -> Path:
    """A `node_modules` with Shopify's own packages, in the versions that we are tested with."""
    return nodes.installed(SESSION_STORAGE)


@pytest.fixture
def session_storage(shopify_packages: Path, tmp_path: Path) -> Path:
    """Our package for Shopify's, beside what it stands on, as an app has it."""
    own = tmp_path / "session-storage"
    shutil.copytree(SESSION_STORAGE, own, ignore=shutil.ignore_patterns("node_modules"))
    (own / "node_modules").symlink_to(shopify_packages)
    return own


@pytest.fixture(scope="session")
def postgres_server(run: Run) -> PostgresServer:
    return run.postgres()


@pytest.fixture(scope="session")
def postgres_admin_dsn(postgres_server: PostgresServer) -> str:
    """The superuser's, on a server that other tests use now: make databases, change nothing."""
    return postgres_server.url


@pytest_asyncio.fixture
async def make_database(run: Run, postgres_server: PostgresServer) -> AsyncIterator[Databases]:
    """`dsn = await make_database(migrations)`, as often as the test likes."""
    databases = Databases(run, postgres_server)
    yield databases
    await databases.drop_all()


@pytest.fixture(scope="session")
def redis_server(run: Run) -> RedisServer:
    return run.redis()


@pytest.fixture
def redis_url(redis_server: RedisServer, worker_number: int) -> str:
    """A database number of this worker's own, empty."""
    url = redis_server.database_url(worker_number)
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        client.flushdb()
    return url


@pytest.fixture(scope="session")
def worker_number(request: pytest.FixtureRequest) -> int:
    """0 without xdist, else 1, 2, …"""
    given = getattr(request.config, "workerinput", None)
    return 0 if given is None else int(given["workerid"].removeprefix("gw")) + 1


@pytest.fixture(scope="session")
def rabbit_server(run: Run) -> RabbitServer:
    return run.rabbit()


@pytest.fixture(scope="session")
def _vhosts(rabbit_server: RabbitServer, worker_number: int) -> Iterator[str]:
    return _fresh_vhosts(rabbit_server, worker_number)


def _fresh_vhosts(server: RabbitServer, worker_number: int) -> Iterator[str]:
    batch = 0
    while True:
        names = [f"w{worker_number}-{batch}-{n}" for n in range(VHOST_BATCH)]
        server.add_vhosts(names)
        yield from names
        batch += 1


@pytest.fixture
def amqp_url(rabbit_server: RabbitServer, _vhosts: Iterator[str]) -> str:
    """A virtual host of this test's own, empty."""
    return rabbit_server.vhost_url(next(_vhosts))


@pytest.fixture
def private_postgres(run: Run) -> Iterator[PostgresServer]:
    with run.private(PostgresServer) as server:
        yield server


@pytest.fixture
def private_pgbouncer(run: Run, postgres_server: PostgresServer) -> Iterator[PgBouncerServer]:
    """Before the server of `make_database`: `private_pgbouncer.database_url(dsn)`."""
    with run.private(PgBouncerServer, before=postgres_server.url) as server:
        yield server


@pytest.fixture
def private_redis(run: Run) -> Iterator[RedisServer]:
    with run.private(RedisServer) as server:
        yield server


@pytest.fixture
def private_rabbit(run: Run) -> Iterator[RabbitServer]:
    with run.private(RabbitServer) as server:
        yield server


@pytest_asyncio.fixture
async def shopify() -> AsyncIterator["MockShopify"]:
    """A Shopify of this test's own."""
    from testkit.shopify.server import MockShopify

    async with MockShopify() as server:
        yield server
