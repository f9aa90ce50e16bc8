"""ratelimit-service as a process of its own, on a database of its own: what its figures are of."""

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from bench.load import LoadError
from chassis import crypto
from localstack.servers import ports, process
from localstack.servers.postgres import PostgresServer

SERVICE = "ratelimit-service"
PREFIX = "/v1/ratelimits"
START_WITHIN_S = 30.0
# A rate that the figure can never reach, so that all answers are the same.
WIDE = {"rate": "10000/s", "burst": 1_000_000_000}
POLICIES: Mapping[str, Mapping[str, Any]] = {
    "bench-shop": {"key": "shop", **WIDE},
    "bench-user": {"key": "user", **WIDE},
    "bench-attacked": {"key": "shop", "rate": "1/m", "burst": 10},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limiter:
    url: str
    ops_url: str
    pid: int
    minter: crypto.Minter = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """What the gateway sends for itself."""
        token = self.minter.mint(SERVICE)
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def at(self, path: str) -> str:
        return f"{self.url}{PREFIX}/{path}"

    def metric(self, name: str) -> float:
        """Summed over its labels."""
        with urllib.request.urlopen(f"{self.ops_url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((name + " ", name + "{"))
        )


def call(limiter: Limiter, method: str, path: str, value: Any) -> Any:
    return asyncio.run(_call(limiter, method, path, value))


async def _call(limiter: Limiter, method: str, path: str, value: Any) -> Any:
    async with (
        aiohttp.ClientSession(headers=limiter.headers) as session,
        session.request(method, limiter.at(path), json=value) as answer,
    ):
        if answer.status >= 300:
            raise LoadError(f"{path}: {answer.status} {(await answer.text())[:300]}")
        return await answer.json()


def fresh_database(server: PostgresServer, name: str) -> str:
    asyncio.run(_fresh_database(server, name))
    return server.database_url(name)


async def _fresh_database(server: PostgresServer, name: str) -> None:
    connection = await asyncpg.connect(server.url)
    await connection.execute(f'drop database if exists "{name}" with (force)')
    await connection.execute(f'create database "{name}"')
    await connection.close()


@contextmanager
def running(
    folder: Path, *, database_url: str, redis_url: str | None = None, road: str
) -> Iterator[Limiter]:
    """Migrated, with our policies, and `road` deciding."""
    folder.mkdir(parents=True, exist_ok=True)
    private, public = crypto.new_service_key()
    own, _ = crypto.new_service_key()
    (folder / "gateway.pub").write_text(public)
    port, ops_port = ports.free_port(), ports.free_port()
    environ = os.environ | {
        "PORT": str(port),
        "OPS_PORT": str(ops_port),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url or "",
        "SERVICE_KEY": own,
        "SERVICE_KEYS_DIR": str(folder),
        "LOG_LEVEL": "WARNING",
        # Of the machine's crowd a decision says nothing; the figures do.
        "RATELIMIT_DECISION_S": "2",
    }
    log = folder / "service.log"
    argv = [sys.executable, "-m", "ratelimit_service"]
    if process.spawn([*argv, "migrate"], log=log, env=environ).wait(START_WITHIN_S):
        raise LoadError(process.tail(log))
    served = os.environ.get("BENCH_LIMITER", "-m ratelimit_service").split()
    child = process.spawn([sys.executable, *served, "api"], log=log, env=environ)
    limiter = Limiter(
        url=f"http://127.0.0.1:{port}",
        ops_url=f"http://127.0.0.1:{ops_port}",
        pid=child.pid,
        minter=crypto.Minter(service="gateway", private_key_pem=private),
    )
    try:
        if not process.wait_until(lambda: _is_on(limiter, road), within_s=START_WITHIN_S):
            raise LoadError(f"{road} does not decide: {process.tail(log)}")
        for name, spec in POLICIES.items():
            call(limiter, "PUT", f"policies/{name}", spec)
        yield limiter
    finally:
        child.terminate()
        child.wait(START_WITHIN_S)


def _is_on(limiter: Limiter, road: str) -> bool:
    try:
        with urllib.request.urlopen(f"{limiter.ops_url}/healthz", timeout=1) as answer:
            return f'"limits":"{road}"' in answer.read().decode()
    except OSError:
        time.sleep(0.05)
        return False
