"""Python, SQL and Lua decide the same, whatever the batch and the state it meets."""

import asyncio
import contextlib
import os
import random
import struct
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ratelimit_service
from ratelimit_service.cache import buckets as cache
from ratelimit_service.core import gcra, quota
from ratelimit_service.store import buckets as store
from ratelimit_service.store.lane import Lane
from testkit.databases import Databases

MIGRATIONS = Path(ratelimit_service.__file__).parent / "store" / "migrations"
LUA = Path(cache.__file__).with_name("buckets.lua").read_text()

# Some 5,000 checks; MAINSTAY_TRACES asks for more.
TRACES = int(os.environ.get("MAINSTAY_TRACES", "3"))
BATCHES = 60
BUCKETS, QUOTAS = ("a", "b", "c", "d"), ("p", "q", "r")
keys = st.sampled_from(BUCKETS)
t_us = st.sampled_from([1, 7, 200, 10_000, 333_334, 86_400_000_000])
Records = dict[str, gcra.Record]


@st.composite
def paces(draw: st.DrawFn, *, version: int | None = None) -> gcra.Pace:
    t = draw(t_us)
    burst = draw(st.integers(1, min(10**9, gcra.MAX_TAU_US // t)) | st.integers(1, 20))
    return gcra.Pace(t, t * burst, draw(st.integers(0, 3)) if version is None else version)


def quota_paces(version: int) -> st.SearchStrategy[gcra.Pace]:
    counts = st.integers(1, 20) | st.integers(1, 10**9)
    return counts.map(lambda n: gcra.Pace(1, n, version))


@st.composite
def windows(draw: st.DrawFn, now_us: int) -> gcra.Window:
    """Around the clock of the store, or off it as a skewed clock or a calendar has it."""
    seconds = draw(st.sampled_from([1, 7, 60, 3600, 82_800, 86_400, 2_678_400, 315_360_000]))
    length = seconds * 1_000_000
    off = draw(st.sampled_from([0, 1, length - 1, length, -1, -length]) | st.integers(0, length))
    start = now_us - off
    number = draw(st.integers(1, 10**6))
    return gcra.Window(number, start, start + length, length, draw(st.booleans()))


@st.composite
def limits(
    draw: st.DrawFn, by_key: dict[str, list[gcra.Pace]], of: dict[str, gcra.Window]
) -> gcra.Limit:
    key = draw(st.sampled_from(list(by_key)))
    pace, window = draw(st.sampled_from(by_key[key])), of.get(key)
    cost = draw(st.integers(0, 3) | st.integers(0, 2 * pace.burst))
    op = draw(st.sampled_from([gcra.TAKE, gcra.TAKE, *gcra.Op]))
    if op is gcra.TAKE:
        waits = [0, 0, 1, 600_000_000, -pace.t_us, -pace.tau_us]
    elif window is not None:
        waits = [0] if op is not gcra.Op.GIVE else [window.number + n for n in (0, 0, -1, 1)]
    else:
        waits = [0, 1, pace.t_us * min(cost, pace.burst), pace.tau_us, 600_000_000]
    wait = draw(st.sampled_from(waits))
    return gcra.Limit(key, pace, cost, wait, draw(st.booleans()), op, window)


@st.composite
def batches(draw: st.DrawFn, of: dict[str, gcra.Window]) -> gcra.Batch:
    """Each key comes at up to two versions of its policy, as while a change spreads."""
    versions = st.sampled_from([[1], [1, 2]])
    by_key = {key: [draw(paces(version=n)) for n in draw(versions)] for key in BUCKETS}
    by_key |= {key: [draw(quota_paces(n)) for n in draw(versions)] for key in of}
    ask = st.builds(
        gcra.Ask, st.lists(limits(by_key, of), min_size=1, max_size=4).map(tuple), st.booleans()
    )
    return gcra.Batch(draw(st.lists(ask, min_size=1, max_size=6)))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Records, gcra.Batch, int]:
    """What is there: nothing, an idle bucket, a debt within it, or far beyond what is believed; of
    a quota a window that is near or long gone."""
    now_us = draw(st.integers(10**15, 2 * 10**15))
    of = {key: draw(windows(now_us)) for key in draw(st.sampled_from([(), QUOTAS]))}
    found: Records = {}
    for key in draw(st.lists(keys, unique=True)):
        pace = draw(paces())
        most = pace.tau_us + gcra.MAX_WAIT_US
        debt = draw(st.sampled_from([0, 1, pace.t_us, pace.tau_us, most]) | st.integers(0, most))
        found[key] = gcra.RateLimitRecord(now_us + debt, pace)
    for key, window in of.items():
        if draw(st.booleans()):
            pace = draw(st.integers(0, 3).flatmap(quota_paces))
            number = window.number + draw(st.integers(-3, 3))
            used, before = (draw(st.integers(0, 20) | st.integers(0, 10**9)) for _ in range(2))
            found[key] = gcra.QuotaRecord(number, used, before, pace)
    return found, draw(batches(of)), now_us


class Trio:
    """One state in three places. SQL and Lua read a clock that a test sets."""

    def __init__(self, postgres: asyncpg.Connection, client: redis.asyncio.Redis) -> None:
        self.postgres = postgres
        self.client = client
        # Without the clock of the server: the only line that differs from what is shipped.
        self.lua = LUA.replace("redis.call('TIME')", "{ARGV[3], ARGV[4]}")
        assert self.lua != LUA

    async def decide(self, records: Records, batch: gcra.Batch, now_us: int) -> Records:
        """What is there afterwards; fails where the three differ."""
        python, changed = gcra.decide(batch, records, now_us)
        sql, sql_after = await self._sql(records, batch, now_us)
        lua, lua_after = await self._lua(records, batch, now_us)
        assert list(sql) == python
        assert lua == python
        after = {**records, **changed}
        assert {key: each for key, each in sql_after.items() if key in after} == after
        assert lua_after == after
        return after

    async def _sql(
        self, records: Records, batch: gcra.Batch, now_us: int
    ) -> tuple[Sequence[gcra.Verdict], Records]:
        transaction = self.postgres.transaction()
        await transaction.start()
        try:
            await self.postgres.execute(
                "create or replace function clock_us() returns bigint language sql"
                f" as 'select {now_us}::bigint'"
            )
            for key, each in records.items():
                query, values = _row(key, each)
                await self.postgres.execute(query, *values)
            lane = cast(Lane, self)
            buckets = store.PostgresBuckets(decisions=lane, bookkeeping=lane)
            verdicts = await buckets.decide(batch)
            return verdicts, await self._rows()
        finally:
            await transaction.rollback()

    async def _rows(self) -> Records:
        buckets = await self.postgres.fetch("select * from rate_limit_record")
        quotas = await self.postgres.fetch("select * from quota_record")
        found: Records = {}
        for row in buckets:
            pace = gcra.Pace(row["t_us"], row["tau_us"], row["version"])
            found[row["key"]] = gcra.RateLimitRecord(row["tat_us"], pace)
        for row in quotas:
            pace = gcra.Pace(1, row["n"], row["version"])
            found[row["key"]] = gcra.QuotaRecord(row["number"], row["used"], row["before"], pace)
        return found

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self.postgres.fetch(sql, *args)
        return rows

    async def _lua(
        self, records: Records, batch: gcra.Batch, now_us: int
    ) -> tuple[Sequence[gcra.Verdict], Records]:
        prefix = uuid.uuid4().hex
        await self.client.set(f"{prefix}:mark", "here")
        for key, each in records.items():
            await self.client.set(f"{prefix}:{key}", _packed(each))
        names = [f"{prefix}:mark", *(f"{prefix}:{key}" for key in batch.keys)]
        seconds, rest = divmod(now_us, 1_000_000)
        answer = await self.client.eval(
            self.lua, len(names), *names, "here", cache.pack(batch, {}), str(seconds), str(rest)
        )
        verdicts = [
            gcra.Verdict(each.answer == "passed", each.levels)
            for each in cache.unpack(batch, answer)
        ]
        after: Records = {}
        for key in {*records, *batch.keys}:
            raw = await self.client.getdel(f"{prefix}:{key}")
            if raw is not None:
                after[key] = _unpacked(raw)
        await self.client.delete(f"{prefix}:mark")
        return verdicts, after


def _row(key: str, record: gcra.Record) -> tuple[str, tuple[object, ...]]:
    pace = record.pace
    if isinstance(record, gcra.QuotaRecord):
        kept = (record.number, record.used, record.before, pace.tau_us, pace.version)
        return "insert into quota_record values ($1, $2, $3, $4, $5, $6, 0, 0)", (key, *kept)
    row = (record.tat_us, pace.t_us, pace.tau_us, pace.version)
    return "insert into rate_limit_record values ($1, $2, $3, $4, $5, 0)", (key, *row)


def _packed(record: gcra.Record) -> bytes:
    pace = record.pace
    if isinstance(record, gcra.QuotaRecord):
        kept = (record.number, record.used, record.before, pace.tau_us, pace.version)
        return struct.pack("<qqqqq", *kept)
    return struct.pack("<qqqq", record.tat_us, pace.t_us, pace.tau_us, pace.version)


def _unpacked(raw: bytes | str) -> gcra.Record:
    assert isinstance(raw, bytes)
    if len(raw) == 40:
        number, used, before, n, version = struct.unpack("<qqqqq", raw)
        return gcra.QuotaRecord(number, used, before, gcra.Pace(1, n, version))
    tat, t, tau, version = struct.unpack("<qqqq", raw)
    return gcra.RateLimitRecord(tat, gcra.Pace(t, tau, version))


@contextlib.asynccontextmanager
async def trio(make_database: Databases, redis_url: str) -> AsyncIterator[Trio]:
    connection = await asyncpg.connect(await make_database(MIGRATIONS), timeout=10)
    client = redis.asyncio.Redis.from_url(redis_url, socket_timeout=5)
    try:
        yield Trio(connection, client)
    finally:
        await client.aclose()
        await connection.close(timeout=5)


async def test_python_sql_and_lua_decide_the_same(make_database: Databases, redis_url: str) -> None:
    loop = asyncio.get_running_loop()

    @settings(
        max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(situations())
    def same(situation: tuple[Records, gcra.Batch, int]) -> None:
        work = everywhere.decide(*situation)
        asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async with trio(make_database, redis_url) as everywhere:
        await asyncio.to_thread(same)


class Trace:
    """Traffic as it comes: policies that change while askers lag behind, several limits a check,
    priorities, shadows, reservations, gifts and penalties; clocks that run, jump and disagree."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_us = self.random.randrange(1_600 * 10**12, 1_900 * 10**12)
        self.records: Records = {}
        self.version = 1
        self.paces: dict[str, list[gcra.Pace]] = {}
        self.quotas: dict[str, quota.Quota] = {}
        zones = [ZoneInfo(name) for name in ("America/Los_Angeles", "Europe/Athens")]
        for number, t in enumerate((100, 3_333, 333_334, 30_000_000, 86_400_000_000)):
            self.paces[f"b{number}"] = [gcra.Pace(t, t * self.random.randint(1, 40), 1)]
        for number, unit in enumerate(("s", "m", "h", "d", "mo")):
            zone = self.random.choice(zones) if unit in ("d", "mo") else UTC
            n, sliding = self.random.randint(1, 40), self.random.random() < 0.6
            self.quotas[f"q{number}"] = quota.Quota(n, 1, unit, zone, sliding)
            self.paces[f"q{number}"] = [gcra.Pace(1, n, 1)]

    def step(self) -> gcra.Batch:
        chosen = self.random
        if chosen.random() < 0.2:
            self.version += 1
            key = chosen.choice(list(self.paces))
            t = 1 if key in self.quotas else self.paces[key][-1].t_us * chosen.choice([1, 2, 3])
            self.paces[key].append(gcra.Pace(t, t * chosen.randint(1, 40), self.version))
        pauses = [0, 0, 0, 1_000, 300_000, 20_000_000, 1_800_000_000, 40_000_000_000, 10**12]
        self.now_us += chosen.randrange(1 + chosen.choice(pauses))
        if chosen.random() < 0.3:
            jumps = [1, 1_000, 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000]
            self.now_us += chosen.choice([-1, -1, 1]) * chosen.choice(jumps)
        return gcra.Batch([self._ask() for _ in range(chosen.randint(1, 60))])

    def _ask(self) -> gcra.Ask:
        count = self.random.choice([1, 2, 2, 3])
        again = self.random.choice(list(self.paces))
        keys = [self.random.choice([*self.paces, again, again, again]) for _ in range(count)]
        return gcra.Ask(tuple([self._limit(key) for key in keys]), self.random.random() < 0.1)

    def _limit(self, key: str) -> gcra.Limit:
        chosen = self.random
        pace, counted = chosen.choice(self.paces[key][-2:]), self.quotas.get(key)
        asker_us = self.now_us + chosen.choice([0, 0, 0, -3_000_000, 3_000_000])
        window = counted.window(asker_us) if counted else None
        op = gcra.TAKE if chosen.random() < 0.8 else chosen.choice(list(gcra.Op))
        cost = chosen.choice([0, 1, 1, 1, 2, 7, pace.burst, pace.burst + 1])
        wait = 0
        if window is not None:
            if op is gcra.Op.GIVE:
                wait = window.number - chosen.choice([0, 0, 1])
            elif op is gcra.TAKE:
                wait = -chosen.choice([0, 0, pace.burst // 3])
        elif op is not gcra.TAKE:
            wait = chosen.choice([0, pace.t_us * cost, pace.t_us // 2, gcra.MAX_WAIT_US])
        else:
            wait = chosen.choice([0, 0, -pace.t_us, 2_000_000, gcra.MAX_WAIT_US])
        return gcra.Limit(key, pace, cost, wait, chosen.random() < 0.15, op, window)


@pytest.mark.parametrize("seed", range(TRACES))
async def test_a_trace_leaves_the_same_behind(
    make_database: Databases, redis_url: str, seed: int
) -> None:
    trace = Trace(seed)
    async with trio(make_database, redis_url) as everywhere:
        for _ in range(BATCHES):
            batch = trace.step()
            trace.records = await everywhere.decide(trace.records, batch, trace.now_us)
