"""`limits`: what a decision costs, over HTTP and in process, with each store, and when one dies."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from bench import limiter, load, machine
from bench.limiter import Limiter
from bench.over_http import CONNECTIONS, bare_server
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from ratelimit_service.core import gcra
from ratelimit_service.core.ledger import Ledger
from ratelimit_service.core.local import Local

SHOPS, KEYS = 200, 10_000
BATCH, BATCH_BODIES = 100, 100
BATCH_CONNECTIONS = 8
BAR_SINGLE, BAR_BATCH = 0.65, {"redis": 40_000, "postgres": 30_000}
BAR_LOCAL, BAR_KILL_MS = 300_000, 150
CALLERS, PAUSE_S = 20, 0.005
LOCAL_DECISIONS = 100_000
REDIS = "redis"
NO_BAR = "–"


@dataclass(frozen=True, slots=True)
class Line:
    """`spent`: microseconds of the service's CPU for each, which hold on a busy machine too."""

    what: str
    figure: str
    bar: str = NO_BAR
    spent: str = ""


class Report:
    def __init__(self) -> None:
        self.lines: list[Line] = []

    def add(self, what: str, figure: str, bar: str = NO_BAR, spent: str = "") -> None:
        self.lines.append(Line(what, figure, bar, spent))
        print(f"  {what:52}{figure:>28}   bar {bar:12}{spent}", flush=True)

    def markdown(self) -> str:
        head = ["| | figure | bar | CPU of the service |", "|---|---:|---:|---:|"]
        rows = [f"| {e.what} | {e.figure} | {e.bar} | {e.spent} |" for e in self.lines]
        return "\n".join([*(f"- {line}" for line in machine.about()), "", *head, *rows])


@dataclass(frozen=True, slots=True)
class Load:
    rate: load.Rate
    cpu_us: float
    """Of the service, for each request."""


def limits(server: PostgresServer, path: Path, *, seconds: float) -> None:
    report = Report()
    for road in (REDIS, "postgres"):
        with _limiter(server, path / road, road) as (running, redis):
            _single(report, running, road, seconds, path)
            _batches(report, running, road, seconds, path)
            _attack(report, running, road, seconds, path)
            if redis is not None:
                _kill(report, running, redis, seconds)
    _locally(report)
    print(f"\n{report.markdown()}\n", flush=True)


@contextmanager
def _limiter(
    server: PostgresServer, path: Path, road: str
) -> Iterator[tuple[Limiter, RedisServer | None]]:
    dsn = limiter.fresh_database(server, "limits")
    if road != REDIS:
        with limiter.running(path, database_url=dsn, road=road) as running:
            yield running, None
        return
    with (
        RedisServer(path / "server", keeps_data=False) as redis,
        limiter.running(path, database_url=dsn, redis_url=redis.url, road=road) as running,
    ):
        yield running, redis


def check(shop: int, policies: Sequence[str] = ("bench-shop",)) -> dict[str, Any]:
    subject = {"shop": f"shop-{shop}.myshopify.com", "user": f"key-{shop}"}
    return {"subject": subject, "policies": list(policies)}


def _single(report: Report, running: Limiter, road: str, seconds: float, path: Path) -> None:
    """Beside the least that a POST of the same body, with an answer of the same size, costs."""
    asked = [check(number, ("bench-shop", "bench-user")) for number in range(SHOPS)]
    answer = limiter.call(running, "POST", "check", asked[0])
    bodies = [orjson.dumps(each) for each in asked]
    ours = _post(running, "check", bodies, seconds, path)
    with bare_server(answer, path) as (url, pid):
        bare = _load(url, pid, running.headers, bodies, seconds, path)
    ratio = ours.rate.per_s / bare.rate.per_s
    report.add(
        f"check, two limits, {road}: of a bare POST",
        f"{ratio:.2f} ({ours.rate.per_s:,.0f} of {bare.rate.per_s:,.0f}/s)",
        f"{BAR_SINGLE}",
        f"{ours.cpu_us:.0f} µs, bare {bare.cpu_us:.0f}",
    )
    if ours.rate.p50_ms is not None:
        report.add(
            f"check, {road}: p50 / p99", f"{ours.rate.p50_ms:.1f} / {ours.rate.p99_ms:.1f} ms"
        )


def _batches(report: Report, running: Limiter, road: str, seconds: float, path: Path) -> None:
    many = [
        [check((number * BATCH + place) % KEYS) for place in range(BATCH)]
        for number in range(BATCH_BODIES)
    ]
    bar = f"{BAR_BATCH[road]:,}/s"
    _batch(report, running, f"check:batch of {BATCH}, {road}, {KEYS:,} keys", bar, many,
           seconds, path)  # fmt: skip
    _batch(report, running, f"check:batch of {BATCH}, {road}, one hot key", NO_BAR,
           [[check(0)] * BATCH], seconds, path)  # fmt: skip


def _batch(
    report: Report,
    running: Limiter,
    what: str,
    bar: str,
    many: Sequence[Sequence[dict[str, Any]]],
    seconds: float,
    path: Path,
) -> None:
    bodies = [orjson.dumps({"items": items}) for items in many]
    done = _post(running, "check:batch", bodies, seconds, path, connections=BATCH_CONNECTIONS)
    report.add(what, f"{done.rate.per_s * BATCH:,.0f}/s", bar, f"{done.cpu_us / BATCH:.1f} µs")


def _attack(report: Report, running: Limiter, road: str, seconds: float, path: Path) -> None:
    """One key, long since over its limit, is asked for by everybody."""
    body = orjson.dumps(check(0, ("bench-attacked",)))
    asked, cached = (running.metric(name) for name in _ATTACKED)
    done = _post(running, "check", [body], seconds, path)
    asked, cached = (running.metric(name) - before
                     for name, before in zip(_ATTACKED, (asked, cached), strict=True))  # fmt: skip
    report.add(
        f"attack on one key, {road}: asks of the store per 1,000",
        f"{1000 * (asked - cached) / asked:.1f} ({done.rate.per_s:,.0f}/s)",
        spent=f"{done.cpu_us:.0f} µs",
    )


_ATTACKED = ("ratelimit_decisions_total", "ratelimit_denials_cached_total")


def _post(
    running: Limiter,
    path: str,
    bodies: Sequence[bytes],
    seconds: float,
    scratch: Path,
    connections: int = CONNECTIONS,
) -> Load:
    return _load(running.at(path), running.pid, running.headers, bodies, seconds, scratch,
                 connections)  # fmt: skip


def _load(
    url: str,
    pid: int,
    headers: dict[str, str],
    bodies: Sequence[bytes],
    seconds: float,
    scratch: Path,
    connections: int = CONNECTIONS,
) -> Load:
    spent, began = machine.cpu_s(pid), time.perf_counter()
    rate = load.http(url, headers=headers, seconds=seconds, connections=connections,
                     scratch=scratch, bodies=bodies)  # fmt: skip
    took_s = time.perf_counter() - began
    return Load(rate, (machine.cpu_s(pid) - spent) / (rate.per_s * took_s) * 1e6)


@dataclass(frozen=True, slots=True)
class Answer:
    at: float
    took_ms: float
    status: int
    road: str


def _kill(report: Report, running: Limiter, redis: RedisServer, seconds: float) -> None:
    """Callers go on while Redis is killed; what the slowest of them waited more than usual."""
    answers, killed_at = asyncio.run(_under_load(running, redis, seconds))
    before = sorted(each.took_ms for each in answers if each.at < killed_at)
    after = [each for each in answers if each.at + each.took_ms / 1000 >= killed_at]
    added_ms = max(each.took_ms for each in after) - before[len(before) // 2]
    broken = sum(each.status >= 500 for each in answers)
    by_postgres = [each.at for each in after if each.road == "postgres"]
    report.add(
        "Redis killed under load: added to the slowest answer",
        f"{added_ms:.0f} ms ({len(answers):,} answers)",
        f"{BAR_KILL_MS} ms",
    )
    report.add("Redis killed under load: answers that are 5xx", f"{broken}", "0")
    report.add(
        "Redis killed under load: Postgres decides after",
        f"{(min(by_postgres) - killed_at) * 1000:.0f} ms" if by_postgres else "never",
    )


async def _under_load(
    running: Limiter, redis: RedisServer, seconds: float
) -> tuple[list[Answer], float]:
    answers: list[Answer] = []
    ends = time.perf_counter() + seconds
    async with (
        aiohttp.ClientSession(headers=running.headers) as session,
        asyncio.TaskGroup() as group,
    ):
        for shop in range(CALLERS):
            group.create_task(_caller(session, running.at("check"), shop, ends, answers))
        await asyncio.sleep(seconds / 2)
        killed_at = time.perf_counter()
        await asyncio.to_thread(redis.kill)
    return answers, killed_at


async def _caller(
    session: aiohttp.ClientSession, url: str, shop: int, ends: float, answers: list[Answer]
) -> None:
    body = orjson.dumps(check(shop))
    while (began := time.perf_counter()) < ends:
        async with session.post(url, data=body) as answer:
            await answer.read()
            road = answer.headers.get("Mainstay-Backend", "")
            took_ms = (time.perf_counter() - began) * 1000
            answers.append(Answer(began, took_ms, answer.status, road))
        await asyncio.sleep(PAUSE_S)


def _locally(report: Report) -> None:
    """As while no store answers, without HTTP: many keys in turn, none of them over its limit."""
    local = Local(Ledger(time.monotonic))
    pace = gcra.Pace(100, 100_000_000, 1)
    asks = [gcra.Ask((gcra.Limit(f"{{s:{n}}}:bench", pace, 1),)) for n in range(KEYS)]
    for ask in asks:
        local.decide(ask, replicas=1)
    began, cpu_s = time.perf_counter(), time.process_time()
    for number in range(LOCAL_DECISIONS):
        local.decide(asks[number % KEYS], replicas=1)
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    report.add("decided in process, no store", f"{LOCAL_DECISIONS / took_s:,.0f}/s",
               f"{BAR_LOCAL:,}/s", f"{cpu_s / LOCAL_DECISIONS * 1e6:.1f} µs")  # fmt: skip
