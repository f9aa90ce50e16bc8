"""`sessions`: what becomes of tokens on bad days, held by session-service and by Shopify's own
packages, before the same Shopify of ours and on the same PostgreSQL."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
import asyncpg
from redis.asyncio import Redis

from bench import machine, session_field
from bench.load import LoadError
from bench.session_field import CALL_WITHIN_S, PACKAGES, Field, Ground, Holder, Told
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from testkit.shopify.faults import Fault
from testkit.shopify.rules import Retry, Rules
from testkit.shopify.server import MockShopify

CALLERS = 200
EXPIRED_S, ENDING_S = -60, 200
SHOPIFY_TAKES_S, WAITED_S = 1.0, 0.7
BAD_ASKS = 5
BACK_OFF_S = 4.0
PURGED = 50_000
SECRET = "shpat_" + "5ec7e7" * 8
Scenario = Callable[["Day", Holder], Awaitable[str]]


class Day:
    """Shops, each of one scenario and one holder."""

    def __init__(self, field: Field, *, scale: float) -> None:
        self.field = field
        self.callers = max(2, round(CALLERS * scale))
        self.ended = max(1, round(PURGED * scale))
        self.shopify = field.shopify
        self._shops = 0

    def new_shop(self) -> str:
        self._shops += 1
        return f"bench-{self._shops}.myshopify.com"

    async def shop(self, holder: Holder, left_s: float, *, refresh: str | None = None) -> str:
        """Installed, and held with a pair whose access token has `left_s` to live."""
        shop = self.new_shop()
        pair = self.shopify.pair(shop)
        pair.access.expires_at = self.shopify.clock.now() + left_s
        await holder.store({
            "id": f"offline_{shop}",
            "shop": shop,
            "state": "",
            "isOnline": False,
            "scope": "write_products",
            "accessToken": pair.access.token,
            "expires": round((time.time() + left_s) * 1000),
            "refreshToken": refresh or pair.refresh,
            "refreshTokenExpires": round((time.time() + 80 * 86_400) * 1000),
        })  # fmt: skip
        return shop

    async def at_once(self, holder: Holder, shop: str) -> Sequence[Told]:
        return await asyncio.gather(*(holder.token(shop, number) for number in range(self.callers)))

    def calls(self, shop: str) -> str:
        count = len(self.shopify.called("token", shop))
        return f"{count} call" + ("" if count == 1 else "s")

    def lives(self, shop: str, told: Told) -> bool:
        now = self.shopify.clock.now()
        return bool(told.token and self.shopify.shop(shop).wallet.find(told.token, now))

    def outcome(self, shop: str, told: Told) -> str:
        if told.token is None:
            return told.instead or "no token"
        return "served" if self.lives(shop, told) else "a token that is dead"

    async def asked(self, holder: Holder, shop: str, times: int = 1, *, pause_s: float = 0) -> str:
        """One after another."""
        outcomes = []
        for number in range(times):
            if number:
                await asyncio.sleep(pause_s)
            outcomes.append(self.outcome(shop, await holder.token(shop)))
        same = len(set(outcomes)) == 1 and times > 1
        told = f"{times} × {outcomes[0]}" if same else ", then ".join(outcomes)
        return f"{told}; {self.calls(shop)}"


def crowd(retry: Retry) -> Scenario:
    async def run(day: Day, holder: Holder) -> str:
        day.shopify.rules.retry = retry
        shop = await day.shop(holder, EXPIRED_S)
        told = await day.at_once(holder, shop)
        live = sum(day.lives(shop, each) for each in told)
        dead = sum(each.token is not None for each in told) - live
        parts = [day.calls(shop), f"{live} served"]
        parts += [f"{dead} dead tokens"] if dead else []
        parts += [f"{day.callers - live - dead} errors"] if live + dead < day.callers else []
        return ", ".join(parts)

    return run


async def near_end(day: Day, holder: Holder) -> str:
    shop = await day.shop(holder, ENDING_S)
    day.shopify.faults.add(Fault(shop=shop, delay_s=SHOPIFY_TAKES_S, times=day.callers))
    told = await day.at_once(holder, shop)
    waited = sum(each.took_s > WAITED_S for each in told)
    return f"{waited} waited for Shopify; {day.calls(shop)}"


def broken(*faults: Callable[[str], Fault], asks: int = 1, pause_s: float = 0) -> Scenario:
    """`faults`: one for each call that reaches Shopify."""

    async def run(day: Day, holder: Holder) -> str:
        shop = await day.shop(holder, EXPIRED_S)
        day.shopify.faults.add(*(fault(shop) for fault in faults))
        return await day.asked(holder, shop, asks, pause_s=pause_s)

    return run


def page_520(shop: str) -> Fault:
    return Fault.answers(520, shop=shop)


def lost(shop: str) -> Fault:
    return Fault.lost(shop=shop)


async def dead_token(day: Day, holder: Holder) -> str:
    shop = await day.shop(holder, EXPIRED_S, refresh="shprt_dead")
    return await day.asked(holder, shop, BAD_ASKS)


BAD_DAYS: dict[str, Scenario] = {
    "a crowd, token ended; a repeat brings the same pair": crowd(Retry.SAME_PAIR),
    "a crowd, token ended; a repeat brings a new pair": crowd(Retry.NEW_PAIR),
    f"a crowd, {ENDING_S} s before the end; Shopify takes 1 s": near_end,
    "520 with a page of HTML, twice": broken(page_520, page_520),
    "answer lost after the rotation": broken(lost, asks=2),
    "answer lost three times": broken(lost, lost, lost, asks=2, pause_s=BACK_OFF_S),
    f"refresh token dead, asked {BAD_ASKS} times": dead_token,
}
CHECKS = {
    "milliseconds": "milliseconds of a date are kept",
    "far": "a date after 2038 is kept",
    "long": "a token of 300 characters is kept",
    "whole": "`associated_user_scope` is kept",
    "extra": "members that nobody knows are kept",
    "replaced": "nothing is left of the session before",
    "none": "`deleteSessions([])` succeeds",
    "crowd": "of 20 sessions stored at once all are found",
}


def sessions(server: PostgresServer, path: Path, scratch: Path, *, scale: float) -> None:
    """Prints two tables. `scale`: of crowds and rows.

    Raises PeersError where npm cannot install Shopify's packages.
    """
    session_field.install(scratch)
    with RedisServer(path / "redis-sessions", keeps_data=False) as redis:
        ground = Ground(postgres=server, redis=redis, folder=path / "sessions", scratch=scratch)
        asyncio.run(_sessions(ground, scale))


async def _sessions(ground: Ground, scale: float) -> None:
    await session_field.databases(ground.postgres)
    timeout = aiohttp.ClientTimeout(total=CALL_WITHIN_S)
    connector = aiohttp.TCPConnector(limit=2 * CALLERS)
    async with (
        MockShopify() as shopify,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as http,
    ):
        with session_field.running(ground, shopify, http) as field:
            day = Day(field, scale=scale)
            print("\n".join(["", *(f"- {line}" for line in machine.about())]))
            print(f"- a crowd is {day.callers} callers at once; {', '.join(PACKAGES)}\n")
            await _bad_days(day)
            await _storages(day)


async def _bad_days(day: Day) -> None:
    holders = day.field.holders
    _head("", [each.name for each in holders])
    for what, scenario in BAD_DAYS.items():
        cells = []
        for holder in holders:
            day.shopify.rules = Rules()
            day.shopify.faults.clear()
            cells.append(await scenario(day, holder))
        _row(what, cells)
    gone = await _purged(day.field, day.ended)
    _row(f"{day.ended:,} sessions ended long ago", ["kept for ever", gone, gone])


async def _storages(day: Day) -> None:
    field = day.field
    apps = (field.on_postgres, field.on_redis, field.on_ours)
    _head("storage", ["Shopify's PostgreSQL", "Shopify's Redis", "ours"])
    for name, what in CHECKS.items():
        _row(what, [await app.check(name, day.new_shop()) for app in apps])
    for app in apps:
        await app.check("secret", day.new_shop(), SECRET)
    dumps = (
        await _dump(field.their_database),
        await _dump_of_redis(field.redis.url),
        await _dump(field.our_database),
    )
    _row("tokens cannot be read in the store", ["no" if SECRET in d else "yes" for d in dumps])


async def _purged(field: Field, ended: int) -> str:
    database = await asyncpg.connect(field.our_database)
    try:
        await database.execute(
            "insert into shopify_session (id, shop, is_online, body, ends_ms, key_id, gen, version)"
            " select 'ended-' || n, 'ended.myshopify.com', true, '', 1, 'k1', 0, 0"
            " from generate_series(1, $1) n",
            ended,
        )
        began = time.monotonic()
        status, said = await field.ours.call("POST", "/v1/maintenance/cleanup")
        took_s = time.monotonic() - began
        left = await database.fetchval("select count(*) from shopify_session where ends_ms = 1")
    finally:
        await database.close()
    if status != 200 or left:
        raise LoadError(f"cleanup: {status} {said}, {left} left")
    return f"gone in {took_s:.2f} s"


async def _dump(database_url: str) -> str:
    """Every row of every table, as text."""
    database = await asyncpg.connect(database_url)
    try:
        tables = await database.fetch(
            "select format('%I.%I', schemaname, tablename) as name from pg_tables"
            " where schemaname not in ('pg_catalog', 'information_schema')"
        )
        rows = [await database.fetch(f"select t::text from {each['name']} t") for each in tables]
    finally:
        await database.close()
    return "\n".join(row[0] for of_table in rows for row in of_table)


async def _dump_of_redis(url: str) -> str:
    async with Redis.from_url(url, decode_responses=True) as redis:
        keys = [key async for key in redis.scan_iter() if await redis.type(key) == "string"]
        return "\n".join([str(await redis.get(key)) for key in keys])


def _head(what: str, names: Sequence[str]) -> None:
    print(f"\n| {what} | {' | '.join(names)} |\n|---|{'---|' * len(names)}", flush=True)


def _row(what: str, cells: Sequence[str]) -> None:
    print(f"| {what} | {' | '.join(cells)} |", flush=True)
