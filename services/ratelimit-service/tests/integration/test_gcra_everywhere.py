"""Python, SQL and Lua decide the same, whatever the batch and the state it meets."""

import asyncio
import struct
import uuid
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ratelimit_service
from ratelimit_service.cache import buckets as cache
from ratelimit_service.core import gcra
from ratelimit_service.store import buckets as store
from testkit.databases import Databases

MIGRATIONS = Path(ratelimit_service.__file__).parent / "store" / "migrations"
LUA = Path(cache.__file__).with_name("buckets.lua").read_text()

keys = st.sampled_from(["a", "b", "c", "d"])
t_us = st.sampled_from([1, 7, 200, 10_000, 333_334, 86_400_000_000])


@st.composite
def paces(draw: st.DrawFn, *, version: int | None = None) -> gcra.Pace:
    t = draw(t_us)
    burst = draw(st.integers(1, min(10**9, gcra.MAX_TAU_US // t)) | st.integers(1, 20))
    return gcra.Pace(t, t * burst, draw(st.integers(0, 3)) if version is None else version)


@st.composite
def limits(draw: st.DrawFn, by_key: dict[str, list[gcra.Pace]]) -> gcra.Limit:
    key = draw(keys)
    pace = draw(st.sampled_from(by_key[key]))
    cost = draw(st.integers(0, 3) | st.integers(0, 2 * pace.burst))
    wait = draw(st.sampled_from([0, 0, 1, 600_000_000, -pace.t_us, -pace.tau_us]))
    return gcra.Limit(key, pace, cost, wait, draw(st.booleans()))


@st.composite
def batches(draw: st.DrawFn) -> gcra.Batch:
    """Each key comes at up to two versions of its policy, as while a change spreads."""
    by_key = {
        key: [draw(paces(version=version)) for version in draw(st.sampled_from([[1], [1, 2]]))]
        for key in ("a", "b", "c", "d")
    }
    ask = st.builds(
        gcra.Ask, st.lists(limits(by_key), min_size=1, max_size=4).map(tuple), st.booleans()
    )
    return gcra.Batch(draw(st.lists(ask, min_size=1, max_size=6)))


@st.composite
def debts(draw: st.DrawFn) -> dict[str, tuple[int, gcra.Pace]]:
    """What is there: nothing, an idle bucket, a debt within it, or far beyond what is believed."""
    found = {}
    for key in draw(st.lists(keys, unique=True)):
        pace = draw(paces())
        most = pace.tau_us + gcra.MAX_WAIT_US
        debt = draw(st.sampled_from([0, 1, pace.t_us, pace.tau_us, most]) | st.integers(0, most))
        found[key] = (debt, pace)
    return found


class Trio:
    """One state in three places. SQL and Lua read a clock that a test sets."""

    def __init__(self, postgres: asyncpg.Connection, client: redis.asyncio.Redis) -> None:
        self.postgres = postgres
        self.client = client
        # Without the clock of the server: the only line that differs from what is shipped.
        self.lua = LUA.replace("redis.call('TIME')", "{ARGV[3], ARGV[4]}")
        assert self.lua != LUA

    async def decide(
        self, state: dict[str, tuple[int, gcra.Pace]], batch: gcra.Batch, now_us: int
    ) -> tuple[Sequence[gcra.Verdict], Sequence[gcra.Verdict], Sequence[gcra.Verdict], object]:
        records = {
            key: gcra.RateLimitRecord(now_us + debt, pace) for key, (debt, pace) in state.items()
        }
        python, changed = gcra.decide(batch, records, now_us)
        sql, sql_after = await self._sql(records, batch, now_us)
        lua, lua_after = await self._lua(records, batch, now_us)
        after = {key: _plain(each) for key, each in {**records, **changed}.items()}
        assert {key: _plain(each) for key, each in sql_after.items() if each.tat_us} == after
        assert {key: _plain(each) for key, each in lua_after.items()} == after
        return python, sql, lua, after

    async def _sql(
        self, records: dict[str, gcra.RateLimitRecord], batch: gcra.Batch, now_us: int
    ) -> tuple[Sequence[gcra.Verdict], dict[str, gcra.RateLimitRecord]]:
        transaction = self.postgres.transaction()
        await transaction.start()
        try:
            await self.postgres.execute(
                "create or replace function clock_us() returns bigint language sql"
                f" as 'select {now_us}::bigint'"
            )
            await self.postgres.executemany(
                "insert into rate_limit_record values ($1, $2, $3, $4, $5, 0)",
                [
                    (key, each.tat_us, each.pace.t_us, each.pace.tau_us, each.pace.version)
                    for key, each in records.items()
                ],
            )
            verdicts = await store.PostgresBuckets(
                decisions=self,
                bookkeeping=self,  # type: ignore[arg-type]
            ).decide(batch)
            rows = await self.postgres.fetch("select * from rate_limit_record")
            return verdicts, {
                row["key"]: gcra.RateLimitRecord(
                    row["tat_us"], gcra.Pace(row["t_us"], row["tau_us"], row["version"])
                )
                for row in rows
            }
        finally:
            await transaction.rollback()

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self.postgres.fetch(sql, *args)
        return rows

    async def _lua(
        self, records: dict[str, gcra.RateLimitRecord], batch: gcra.Batch, now_us: int
    ) -> tuple[Sequence[gcra.Verdict], dict[str, gcra.RateLimitRecord]]:
        prefix = uuid.uuid4().hex
        await self.client.set(f"{prefix}:mark", "here")
        for key, each in records.items():
            pace = each.pace
            raw = struct.pack("<qqqq", each.tat_us, pace.t_us, pace.tau_us, pace.version)
            await self.client.set(f"{prefix}:{key}", raw)
        names = [f"{prefix}:mark", *(f"{prefix}:{key}" for key in batch.keys)]
        seconds, rest = divmod(now_us, 1_000_000)
        answer = await self.client.eval(
            self.lua, len(names), *names, "here", cache.pack(batch, {}), str(seconds), str(rest)
        )
        verdicts = [
            gcra.Verdict(each.answer == "passed", each.levels)
            for each in cache.unpack(batch, answer)
        ]
        after = {}
        for key in {*records, *batch.keys}:
            raw = await self.client.getdel(f"{prefix}:{key}")
            if raw is not None:
                tat, t, tau, version = struct.unpack("<qqqq", raw)
                after[key] = gcra.RateLimitRecord(tat, gcra.Pace(t, tau, version))
        await self.client.delete(f"{prefix}:mark")
        return verdicts, after


def _plain(record: gcra.RateLimitRecord) -> tuple[int, int, int, int]:
    return (record.tat_us, record.pace.t_us, record.pace.tau_us, record.pace.version)


async def test_python_sql_and_lua_decide_the_same(make_database: Databases, redis_url: str) -> None:
    dsn = await make_database(MIGRATIONS)
    connection = await asyncpg.connect(dsn, timeout=10)
    client = redis.asyncio.Redis.from_url(redis_url, socket_timeout=5)
    trio = Trio(connection, client)
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(state=debts(), batch=batches(), now_us=st.integers(10**15, 3 * 10**15))
    def same(state: dict[str, tuple[int, gcra.Pace]], batch: gcra.Batch, now_us: int) -> None:
        work = trio.decide(state, batch, now_us)
        python, sql, lua, _ = asyncio.run_coroutine_threadsafe(work, loop).result(30)
        assert sql == python
        assert lua == python

    try:
        await asyncio.to_thread(same)
    finally:
        await client.aclose()
        await connection.close(timeout=5)
