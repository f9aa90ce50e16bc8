"""Two replicas of ratelimit-service as processes, their stores, and a bad network between them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from chassis import crypto
from localstack.servers import ports, process
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from testkit.faults import TcpProxy
from testkit.signals import eventually

SERVICE = "ratelimit-service"
PREFIX = "/v1/ratelimits"
READY_WITHIN_S = 30.0
STEADY_WITHIN_S = 30.0
ANSWER_WITHIN_S = 20.0


@dataclass(slots=True)
class Replica:
    """One process; it may be killed, frozen and started again, on the same port."""

    log: Path
    environ: Mapping[str, str]
    port: int
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        argv = [sys.executable, "-m", "ratelimit_service", "api"]
        self._child = process.spawn(argv, log=self.log, env=self.environ)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait(5)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)


@dataclass(slots=True)
class Limiters:
    """The first replica's way to Redis and the second one's to Postgres go through proxies."""

    postgres: PostgresServer
    redis: RedisServer
    replicas: tuple[Replica, Replica]
    to_redis: TcpProxy
    to_postgres: TcpProxy
    http: aiohttp.ClientSession
    minter: crypto.Minter

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.minter.mint(SERVICE)}"}

    async def call(self, replica: Replica, method: str, path: str, value: Any = None) -> Any:
        """The document; AssertionError where there is another answer."""
        url = f"{replica.url}{PREFIX}{path}"
        async with self.http.request(method, url, json=value, headers=self.headers) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def put(self, name: str, spec: Mapping[str, Any]) -> Any:
        """In force in both; its document."""
        first, second = self.replicas
        document = await self.call(first, "PUT", f"/policies/{name}", spec)
        asked = {"policies": [name], "subject": {"shop": "nobody"}, "mode": "peek"}
        await eventually(lambda: self.call(second, "POST", "/check", asked), 10.0)
        return document

    async def steady(self, road: str = "redis") -> None:
        """Both decide by `road`, and miss nothing but, on Postgres, Redis."""

        async def are() -> bool:
            for replica in self.replicas:
                try:
                    async with self.http.get(f"{replica.url}/healthz") as answer:
                        said = await answer.json()
                except aiohttp.ClientError as error:
                    raise AssertionError(replica.url) from error
                assert said.get("limits") == road, said
                assert said["replicas"] == len(self.replicas), said
                assert not str(said["degraded"] or "").startswith("postgres"), said
            return True

        await eventually(are, STEADY_WITHIN_S)

    async def switches(self) -> int:
        """How often the decider has changed."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return int(await connection.fetchval("select seq from epoch"))
        finally:
            await connection.close()


@asynccontextmanager
async def running(
    folder: Path, postgres: PostgresServer, redis: RedisServer, *, decision_s: float
) -> AsyncIterator[Limiters]:
    """On servers of their own, which are running. `decision_s`: what Postgres has for a batch."""
    folder.mkdir(parents=True, exist_ok=True)
    gateway, public = crypto.new_service_key()
    (folder / "gateway.pub").write_text(public)
    environ = os.environ | {
        "DATABASE_URL": postgres.url,
        "REDIS_URL": redis.url,
        "SERVICE_KEY": crypto.new_service_key()[0],
        "SERVICE_KEYS_DIR": str(folder),
        "RATELIMIT_DECISION_S": str(decision_s),
        "LOG_LEVEL": "WARNING",
    }
    _migrate(folder / "migrate.log", environ)
    async with AsyncExitStack() as stack:
        to_redis = await stack.enter_async_context(TcpProxy.before(redis.url))
        to_postgres = await stack.enter_async_context(TcpProxy.before(postgres.url))
        ways = (
            {"REDIS_URL": to_redis.url(redis.url)},
            {"DATABASE_URL": to_postgres.url(postgres.url)},
        )
        first, second = (
            _replica(folder / f"replica-{n}.log", {**environ, **way})
            for n, way in enumerate(ways, 1)
        )
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        await stack.enter_async_context(http)
        minter = crypto.Minter(service="gateway", private_key_pem=gateway)
        for replica in (first, second):
            stack.callback(replica.kill)
            replica.start()
        limiters = Limiters(postgres, redis, (first, second), to_redis, to_postgres, http, minter)
        await limiters.steady()
        yield limiters


def _migrate(log: Path, environ: Mapping[str, str]) -> None:
    argv = [sys.executable, "-m", "ratelimit_service", "migrate"]
    if process.spawn(argv, log=log, env=environ).wait(READY_WITHIN_S):
        raise AssertionError(process.tail(log, 20))


def _replica(log: Path, environ: Mapping[str, str]) -> Replica:
    port, ops_port = ports.free_port(), ports.free_port()
    return Replica(log, {**environ, "PORT": str(port), "OPS_PORT": str(ops_port)}, port)


async def crash(server: PostgresServer | RedisServer) -> None:
    await asyncio.to_thread(server.kill)


async def start(server: PostgresServer | RedisServer) -> None:
    await asyncio.to_thread(server.start)


def now() -> float:
    return time.monotonic()
