"""One service in the hands of its tests: called as the gateway calls it, or run as it is run.

A plugin, loaded beside `testkit.plugin`: its fixtures are there for every test.
"""

import asyncio
import io
import sys
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import orjson
import pytest
from aiohttp import web
from yarl import URL

from chassis import crypto
from localstack.servers import ports


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Any
    raw: bytes

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)

    @property
    def pointers(self) -> list[str]:
        return [each["pointer"] for each in self.body["errors"]]


@dataclass(frozen=True, kw_only=True)
class Served:
    """`call` sends what a gateway would send for an API key with these scopes and this shop."""

    name: ClassVar[str]
    scopes: ClassVar[frozenset[str]]
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
        scopes: frozenset[str] | None = None,
        shop: str | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | AsyncIterable[bytes] | None = None,
        key: str | None = None,
    ) -> Reply:
        token = self.minter.mint(
            self.name, key_id="k", shop=shop, scopes=self.scopes if scopes is None else scopes
        )
        said = {"Authorization": f"Bearer {token}"}
        data = raw if raw is not None else None if value is None else orjson.dumps(value)
        if data is not None or method == "POST":
            said["Content-Type"] = "application/json"
        if key is not None:
            said["Idempotency-Key"] = key
        async with self.http.request(
            method,
            URL(self.url + path, encoded=True),
            data=io.BytesIO(data) if isinstance(data, bytes) else data,
            headers=said | dict(headers or {}),
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def post(self, path: str, value: Any = None, **how: Any) -> Reply:
        return await self.call("POST", path, value, **how)

    async def get(self, path: str, **how: Any) -> Reply:
        return await self.call("GET", path, **how)


@pytest.fixture
def gateway(tmp_path: Path) -> crypto.Minter:
    """Its public key is in `tmp_path`, where the service looks for it."""
    private, public = crypto.new_service_key()
    (tmp_path / "gateway.pub").write_text(public)
    return crypto.Minter(service="gateway", private_key_pem=private)


@pytest.fixture
def process_environment(tmp_path: Path) -> dict[str, str]:
    """What any process of a service needs, but its database."""
    private, _public = crypto.new_service_key()
    (tmp_path / "own.pem").write_text(private)
    return {
        "PORT": str(ports.free_port()),
        "OPS_PORT": str(ports.free_port()),
        "SERVICE_KEY_FILE": str(tmp_path / "own.pem"),
        "SERVICE_KEYS_DIR": str(tmp_path),
    }


@asynccontextmanager
async def running(
    package: str, verb: str, environment: Mapping[str, str], log: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of its own, killed at the end if it still runs."""
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", package, verb, env=environment, stdout=sink, stderr=sink
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
