"""Who holds sessions, before one Shopify of ours: session-service in two replicas, and apps with
Shopify's own Express package in two processes, on Shopify's storage or on ours."""

import asyncio
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from bench import limiter, peers
from bench.contestants import node_of
from bench.load import LoadError
from chassis import crypto
from localstack.home import ROOT
from localstack.servers import ports, process
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from testkit import node
from testkit.shopify.server import MockShopify

SERVICE = "session-service"
SCOPES = frozenset({"sessions:read", "sessions:write", "tokens:read", "admin"})
PACKAGES = (
    "@shopify/shopify-api@15.0.0",
    "@shopify/shopify-app-express@8.0.2",
    "@shopify/shopify-app-session-storage@7.0.0",
    "@shopify/shopify-app-session-storage-postgresql@8.0.0",
    "@shopify/shopify-app-session-storage-redis@8.0.0",
    "express@5.2.1",
)
STORAGE = ROOT / "sdk" / "js" / "session-storage"
APP = Path(__file__).parent / "adapters" / "shopify_app.mjs"
REPLICAS = 2
START_WITHIN_S = 30.0
CALL_WITHIN_S = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What an app gets that asks for a token: the token, or instead what was answered."""

    token: str | None = field(default=None, repr=False)
    instead: str = ""
    took_s: float


class Holder(Protocol):
    """`caller`: its number; they are spread over the replicas."""

    @property
    def name(self) -> str: ...

    async def store(self, document: Mapping[str, Any]) -> None: ...

    async def token(self, shop: str, caller: int = 0) -> Told: ...


@dataclass(frozen=True, kw_only=True)
class Service:
    """session-service, as the gateway calls it."""

    name: str
    urls: Sequence[str]
    http: aiohttp.ClientSession
    minter: crypto.Minter

    async def store(self, document: Mapping[str, Any]) -> None:
        path = f"/v1/sessions/{document['id']}"
        status, said = await self.call("PUT", path, document)
        if status != 200:
            raise LoadError(f"{self.name}: {said}")

    async def token(self, shop: str, caller: int = 0) -> Told:
        began = time.monotonic()
        path = f"/v1/shops/{shop}/token?min_ttl=300"
        status, said = await self.call("GET", path, caller=caller)
        instead = "" if status == 200 else f"{status} {said.get('code')}"
        took_s = time.monotonic() - began
        return Told(token=said.get("access_token"), instead=instead, took_s=took_s)

    async def call(
        self, method: str, path: str, value: Any = None, *, caller: int = 0
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.key()}"}
        url = self.urls[caller % len(self.urls)] + path
        async with self.http.request(method, url, json=value, headers=headers) as answer:
            return answer.status, await answer.json()

    def key(self) -> str:
        return self.minter.mint(SERVICE, key_id="k", scopes=SCOPES)


@dataclass(frozen=True, kw_only=True)
class App:
    """`key` is for a storage of ours."""

    name: str
    urls: Sequence[str]
    http: aiohttp.ClientSession
    minter: crypto.Minter

    async def store(self, document: Mapping[str, Any]) -> None:
        said = await self.call("store", {"session": document})
        if "error" in said:
            raise LoadError(f"{self.name}: {said}")

    async def token(self, shop: str, caller: int = 0) -> Told:
        began = time.monotonic()
        said = await self.call("token", {"shop": shop}, caller=caller)
        instead = "" if "value" in said else f"throws {said.get('error')}"
        return Told(token=said.get("value"), instead=instead, took_s=time.monotonic() - began)

    async def check(self, name: str, shop: str, token: str = "") -> str:
        said = await self.call("check", {"name": name, "shop": shop, "token": token})
        if "error" in said:
            return f"throws: {said['detail'][:60]}"
        return "yes" if said["value"] else "no"

    async def call(self, deed: str, value: Any, *, caller: int = 0) -> Any:
        headers = {"Mainstay-Key": self.minter.mint(SERVICE, key_id="k", scopes=SCOPES)}
        url = f"{self.urls[caller % len(self.urls)]}/{deed}"
        async with self.http.post(url, json=value, headers=headers) as answer:
            return await answer.json(content_type=None)


@dataclass(frozen=True, kw_only=True)
class Field:
    shopify: MockShopify
    ours: Service
    """Shopify's package on its own storage in PostgreSQL, in Redis, and on ours."""
    on_postgres: App
    on_redis: App
    on_ours: App
    our_database: str = field(repr=False)
    their_database: str = field(repr=False)
    redis: RedisServer

    @property
    def holders(self) -> Sequence[Holder]:
        return self.on_postgres, self.on_ours, self.ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Servers that need no event loop."""

    postgres: PostgresServer
    redis: RedisServer
    folder: Path
    scratch: Path


def install(scratch: Path) -> None:
    """Shopify's packages and ours beside them. Raises PeersError."""
    scratch.mkdir(parents=True, exist_ok=True)
    peers.install_node(PACKAGES, scratch)
    own = node_of(scratch) / "node_modules" / "mainstay-session-storage"
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(STORAGE, own, ignore=shutil.ignore_patterns("node_modules", "tests"))


@contextmanager
def running(ground: Ground, shopify: MockShopify, http: aiohttp.ClientSession) -> Iterator[Field]:
    """Everything on databases of its own."""
    ours, theirs = (ground.postgres.database_url(name) for name in ("ours", "theirs"))
    private, public = crypto.new_service_key()
    ground.folder.mkdir(parents=True, exist_ok=True)
    (ground.folder / "gateway.pub").write_text(public)
    minter = crypto.Minter(service="gateway", private_key_pem=private)
    with ExitStack() as children:

        def app(name: str, storage: str, stores: Sequence[str]) -> App:
            urls = [
                _app(children, ground, shopify, storage=storage, store=store) for store in stores
            ]
            return App(name=name, urls=urls, http=http, minter=minter)

        replicas = _replicas(children, ground, shopify, ours)
        yield Field(
            shopify=shopify,
            ours=Service(name="session-service", urls=replicas, http=http, minter=minter),
            on_postgres=app("Shopify's Express package", "postgres", [theirs] * REPLICAS),
            on_redis=app("Shopify's Redis storage", "redis", [ground.redis.url]),
            on_ours=app("the same on our storage", "mainstay", replicas),
            our_database=ours,
            their_database=theirs,
            redis=ground.redis,
        )


async def databases(postgres: PostgresServer) -> None:
    for name in ("ours", "theirs"):
        await asyncio.to_thread(limiter.fresh_database, postgres, name)


def _replicas(
    children: ExitStack, ground: Ground, shopify: MockShopify, database_url: str
) -> list[str]:
    own, _ = crypto.new_service_key()
    environ = os.environ | {
        "DATABASE_URL": database_url,
        "SERVICE_KEY": own,
        "SERVICE_KEYS_DIR": str(ground.folder),
        "SESSION_KEYS": f"k1:{crypto.new_key()}",
        "LOG_LEVEL": "WARNING",
        "SHOPIFY_API_KEY": shopify.api_key,
        "SHOPIFY_API_SECRET": shopify.api_secret,
        "SHOPIFY_SHOP_ORIGIN": shopify.origin,
        "SHOPIFY_APP_URL": "https://app.example.com",
        "SHOPIFY_SCOPES": "write_products",
    }
    log = ground.folder / "session-service.log"
    argv = [sys.executable, "-m", "session_service"]
    if process.spawn([*argv, "migrate"], log=log, env=environ).wait(START_WITHIN_S):
        raise LoadError(process.tail(log))
    urls = []
    for _ in range(REPLICAS):
        port, ops_port = ports.free_port(), ports.free_port()
        env = environ | {"PORT": str(port), "OPS_PORT": str(ops_port)}
        _child(children, [*argv, "api"], log, env)
        urls.append(f"http://127.0.0.1:{port}")
    if not process.wait_until(lambda: not any(map(_is_shut, urls)), within_s=START_WITHIN_S):
        raise LoadError(process.tail(log))
    return urls


def _app(
    children: ExitStack, ground: Ground, shopify: MockShopify, *, storage: str, store: str
) -> str:
    log = ground.folder / f"{storage}-{ports.free_port()}.log"
    environ = os.environ | {
        "BENCH_NODE": str(node_of(ground.scratch)),
        "BENCH_STORAGE": storage,
        "BENCH_STORE": store,
        "BENCH_SHOPIFY": shopify.url,
        "SHOPIFY_API_KEY": shopify.api_key,
        "SHOPIFY_API_SECRET": shopify.api_secret,
    }
    _child(children, [node.find().program, str(APP)], log, environ)

    def port() -> re.Match[str] | None:
        return re.search(r"^listening on (\d+)$", log.read_text(), re.MULTILINE)

    process.wait_until(lambda: port() is not None, within_s=START_WITHIN_S)
    found = port()
    if found is None:
        raise LoadError(process.tail(log))
    return f"http://127.0.0.1:{found[1]}"


def _child(children: ExitStack, argv: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
    child = process.spawn(argv, log=log, env=environ)
    children.callback(child.wait, START_WITHIN_S)
    children.callback(child.terminate)


def _is_shut(url: str) -> bool:
    return ports.is_free(int(url.rpartition(":")[2]))
