"""Records that are idle for minutes leave, and no decision changes by it."""

import random
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from contracts.ratelimits import Algorithm
from ratelimit_service.__main__ import MIGRATIONS
from ratelimit_service.core import gcra, quota
from ratelimit_service.store.buckets import PostgresBuckets
from ratelimit_service.store.lane import Lane
from testkit.databases import Databases

PERIODS_S = (1, 7, 60, 299, 300, 301, 3600, 86_400, 7 * 86_400, 30 * 86_400)
TRACES, STEPS = 3, 50


class Pair:
    """The same keys twice, `kept` and `swept`, under a clock that the test moves."""

    def __init__(self, connection: asyncpg.Connection, lane: Lane) -> None:
        self.connection = connection
        self.buckets = PostgresBuckets(decisions=lane, bookkeeping=lane)

    async def at(self, now_us: int) -> None:
        await self.connection.execute("update test_clock set now_us = $1", now_us)

    async def decide(self, asks: list[gcra.Ask]) -> list[gcra.Verdict]:
        return list(await self.buckets.decide(gcra.Batch(asks), is_pinned=True))

    async def sweep(self) -> None:
        """Of `swept` alone: what is `kept` is moved out of the way."""
        await self.connection.execute(
            "create temp table aside as select * from rate_limit_record where key like 'kept%';"
            "create temp table quotas_aside as select * from quota_record where key like 'kept%';"
        )
        await self.buckets.sweep()
        await self.connection.execute(
            "insert into rate_limit_record select * from aside on conflict do nothing;"
            "insert into quota_record select * from quotas_aside on conflict do nothing;"
            "drop table aside; drop table quotas_aside"
        )

    async def count(self, kind: str) -> int:
        count: int = await self.connection.fetchval(
            "select (select count(*) from rate_limit_record where key like $1)"
            " + (select count(*) from quota_record where key like $1)",
            f"{kind}%",
        )
        return count


@pytest_asyncio.fixture
async def pair(make_database: Databases) -> AsyncIterator[Pair]:
    dsn = await make_database(MIGRATIONS)
    connection = await asyncpg.connect(dsn, timeout=10)
    await connection.execute(
        "create table test_clock (now_us bigint); insert into test_clock values (0);"
        "create or replace function clock_us() returns bigint language sql volatile"
        " as 'select now_us from test_clock'"
    )
    lane = Lane(dsn, budget_s=10)
    yield Pair(connection, lane)
    lane.close()
    await connection.close(timeout=5)


class Policy:
    def __init__(self, chosen: random.Random, algorithm: Algorithm, period_s: int) -> None:
        self.name = f"{algorithm}:{period_s}"
        n = chosen.randint(1, 20)
        self.quota: quota.Quota | None = None
        self.pace = gcra.Pace(1, n, 1)
        if algorithm is Algorithm.GCRA:
            t = max(period_s * 1_000_000 // n, 1)
            self.pace = gcra.Pace(t, t * n, 1)
        else:
            days, rest = divmod(period_s, 86_400)
            shape = (days, "d") if days and not rest else (period_s, "s")
            self.quota = quota.Quota(n, *shape, sliding=algorithm is Algorithm.SLIDING)
        self.period_us = period_s * 1_000_000

    def ask(self, kind: str, now_us: int, cost: int, wait_us: int) -> gcra.Ask:
        window = self.quota.window(now_us) if self.quota else None
        wait_us = 0 if window else wait_us
        return gcra.Ask(
            (gcra.Limit(f"{kind}:{self.name}", self.pace, cost, wait_us, window=window),)
        )


@pytest.mark.parametrize("seed", range(TRACES))
async def test_no_decision_changes_by_the_sweep(pair: Pair, seed: int) -> None:
    chosen = random.Random(seed)
    algorithms = (Algorithm.GCRA, Algorithm.FIXED, Algorithm.SLIDING)
    policies = [Policy(chosen, each, period) for each in algorithms for period in PERIODS_S]
    now_us, swept = chosen.randrange(1_700 * 10**12, 1_800 * 10**12), 0
    for _ in range(STEPS):
        # Long enough for some records to be idle, near the ends of periods of all lengths.
        period_us = chosen.choice(PERIODS_S) * 1_000_000
        now_us += chosen.choice([0, 299, 301]) * 1_000_000
        now_us += chosen.choice([period_us, period_us // 2, chosen.randrange(1, 2 * period_us)])
        await pair.at(now_us)
        before = await pair.count("swept")
        await pair.sweep()
        swept += before - await pair.count("swept")
        some = chosen.sample(policies, 12)
        costs = [chosen.choice([1, 2, each.pace.burst]) for each in some]
        waits = [chosen.choice([0, 0, gcra.MAX_WAIT_US]) for _ in some]
        found = {
            kind: await pair.decide(
                [
                    each.ask(kind, now_us, cost, wait)
                    for each, cost, wait in zip(some, costs, waits, strict=True)
                ]
            )
            for kind in ("kept", "swept")
        }
        assert [_said(each) for each in found["swept"]] == [_said(each) for each in found["kept"]]
    assert swept > 20
    assert await pair.count("swept") < await pair.count("kept")


def _said(verdict: gcra.Verdict) -> tuple[object, ...]:
    """What decides; what was used before by a window that does not weigh it is nobody's to see."""
    [level] = verdict.levels
    weight = level.span.weight if level.span else 0
    return verdict.passed, level.debt_us, level.pace, weight
