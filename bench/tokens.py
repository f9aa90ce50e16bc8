"""`tokens`: what it costs to be told the token of a shop, by the memory of the process and by
PostgreSQL, beside the least that a GET costs."""

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import orjson

from bench import load, machine
from bench.limiter import fresh_database
from bench.load import LoadError
from bench.over_http import CONNECTIONS, bare_server
from chassis import crypto
from localstack.servers import ports, process
from localstack.servers.postgres import PostgresServer
from session_service.core import recent, record
from session_service.core.sealing import Vault
from session_service.store import sessions as table

SERVICE = "session-service"
START_WITHIN_S = 30.0
# All in memory; and so many that none is still there when its turn comes again.
FEW, MANY = 200, 2 * recent.MAX_SESSIONS
BAR_MEMORY, BAR_POSTGRES = 0.75, 0.5
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    url: str
    pid: int
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Load:
    """`cpu_us`: of the process, for each request; it holds on a busy machine too."""

    rate: load.Rate
    cpu_us: float


def tokens(server: PostgresServer, path: Path, *, seconds: float) -> None:
    keys = f"k1:{crypto.new_key()}"
    dsn = fresh_database(server, "tokens")
    with running(path / "tokens", dsn, keys) as keeper:
        asyncio.run(_fill(dsn, keys))
        few, many = _paths(FEW), _paths(MANY)
        answer = orjson.loads(_get(keeper, few[0]))
        with bare_server(answer, path) as (url, pid):
            bare = _load(url.removesuffix("/v1/jobs"), pid, few, {}, seconds, path)
            bare_of_many = _load(url.removesuffix("/v1/jobs"), pid, many, {}, seconds, path)
        memory = _load(keeper.url, keeper.pid, few, keeper.headers, seconds, path)
        postgres = _load(keeper.url, keeper.pid, many, keeper.headers, seconds, path)
    lines = [
        f"{'a token, of a bare GET':34}{'rate':>22}{'ratio':>8}{'bar':>6}   p50 / p99, CPU",
        _line(f"by memory, {FEW} shops", memory, bare, BAR_MEMORY),
        _line(f"by PostgreSQL, {MANY:,} shops", postgres, bare_of_many, BAR_POSTGRES),
    ]
    print("\n".join([*(f"- {each}" for each in machine.about()), "", *lines, ""]), flush=True)


def _line(what: str, ours: Load, bare: Load, bar: float) -> str:
    rate = f"{ours.rate.per_s:,.0f} of {bare.rate.per_s:,.0f}/s"
    return (
        f"{what:34}{rate:>22}{ours.rate.per_s / bare.rate.per_s:8.2f}{bar:6}"
        f"   {ours.rate.p50_ms:.1f} / {ours.rate.p99_ms:.1f} ms,"
        f" {ours.cpu_us:.0f} µs, bare {bare.cpu_us:.0f}"
    )


def _load(
    url: str, pid: int, paths: Sequence[str], headers: dict[str, str], seconds: float, path: Path
) -> Load:
    spent, began = machine.cpu_s(pid), time.perf_counter()
    rate = load.gets(url, paths, headers=headers, seconds=seconds, connections=CONNECTIONS,
                     scratch=path)  # fmt: skip
    took_s = time.perf_counter() - began
    return Load(rate, (machine.cpu_s(pid) - spent) / (rate.per_s * took_s) * 1e6)


def _paths(shops: int) -> list[str]:
    return [f"/v1/shops/{_shop(number)}/token" for number in range(shops)]


def _shop(number: int) -> str:
    return f"bench-{number}.myshopify.com"


@contextmanager
def running(folder: Path, dsn: str, keys: str) -> Iterator[Keeper]:
    """On PostgreSQL alone, with a caller of the gateway's who may read tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    private, public = crypto.new_service_key()
    (folder / "gateway.pub").write_text(public)
    port, log = ports.free_port(), folder / "service.log"
    environ = os.environ | {
        "PORT": str(port),
        "OPS_PORT": str(ports.free_port()),
        "DATABASE_URL": dsn,
        "SERVICE_KEY": crypto.new_service_key()[0],
        "SERVICE_KEYS_DIR": str(folder),
        "SESSION_KEYS": keys,
        "LOG_LEVEL": "WARNING",
    }
    argv = [sys.executable, "-m", "session_service"]
    if process.spawn([*argv, "migrate"], log=log, env=environ).wait(START_WITHIN_S):
        raise LoadError(process.tail(log))
    child = process.spawn([*argv, "api"], log=log, env=environ)
    token = crypto.Minter(service="gateway", private_key_pem=private).mint(
        SERVICE, key_id="bench", scopes=frozenset({"tokens:read"})
    )
    try:
        if not process.wait_until(lambda: not ports.is_free(port), within_s=START_WITHIN_S):
            raise LoadError(process.tail(log))
        yield Keeper(
            url=f"http://127.0.0.1:{port}",
            pid=child.pid,
            headers={"Authorization": f"Bearer {token}"},
        )
    finally:
        child.terminate()
        child.wait(START_WITHIN_S)


async def _fill(dsn: str, keys: str) -> None:
    """As Shopify's libraries store an offline session."""
    vault, ends_ms = Vault(crypto.Keyring(keys)), int(time.time() * 1000) + HOUR_MS
    rows = []
    for number in range(MANY):
        shop = _shop(number)
        session = record.from_document({
            "id": record.id_for(shop, user_id=None),
            "shop": shop,
            "state": "082741961",
            "isOnline": False,
            "scope": "read_products,write_orders",
            "accessToken": f"shpat_{number:032x}",
            "refreshToken": f"shprt_{number:032x}",
            "expires": ends_ms,
            "refreshTokenExpires": ends_ms + 90 * 24 * HOUR_MS,
        })  # fmt: skip
        columns = table._columns(vault.seal(session))  # noqa: SLF001 - 20,000 in one statement
        rows.append((*columns, session.ends_ms, vault.key_id))
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(table.SQL.insert, rows)
        await connection.execute("analyze")
    finally:
        await connection.close()


def _get(keeper: Keeper, path: str) -> bytes:
    asked = urllib.request.Request(keeper.url + path, headers=keeper.headers)
    with urllib.request.urlopen(asked) as answer:
        said: bytes = answer.read()
    return said
