"""Without the record: Redis goes on alone, and without both each policy says what holds."""

import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from chassis import migrate
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from ratelimit_service.__main__ import MIGRATIONS
from ratelimit_service.app import LEDGER, REDIS_BUCKETS
from ratelimit_service.core import switch
from testkit.faults import TcpProxy
from testkit.signals import eventually

SHOP = {"shop": "a"}
HOURLY = {"key": "shop", "rate": "1/h", "burst": 40}


@pytest_asyncio.fixture
async def dsn(private_postgres: PostgresServer) -> str:
    await migrate.migrate(private_postgres.url, MIGRATIONS)
    return private_postgres.url


async def spend(service: Any, times: int, policy: str = "slow") -> int:
    decisions = [await service.check(policy, subject=SHOP) for _ in range(times)]
    return sum(decision["allowed"] for decision in decisions)


async def road(service: Any, wanted: str) -> None:
    async def there() -> bool:
        return bool(await service.road() == wanted)

    await eventually(there, within_s=10)


@pytest_asyncio.fixture
async def both(start: Any, dsn: str, private_redis: RedisServer) -> AsyncIterator[Any]:
    service = await start(database_url=dsn, redis_url=private_redis.url)
    await service.put("slow", **HOURLY)
    await road(service, "redis")
    yield service


async def test_redis_goes_on_alone_and_says_so(
    both: Any, private_postgres: PostgresServer, private_redis: RedisServer
) -> None:
    given = await spend(both, 10)
    private_postgres.kill()

    async def is_said() -> bool:
        decision = await both.check("slow", subject=SHOP, mode="peek")
        return bool(decision["degraded"])

    await eventually(is_said)
    given += await spend(both, 10)
    reply = await both.call("POST", "/check", {"policies": ["slow"], "subject": SHOP})
    given += reply.body["allowed"]
    assert reply.headers["Mainstay-Backend"] == "redis"
    assert reply.headers["Degraded"].startswith("postgres;")

    private_postgres.start()
    await eventually(lambda: _undegraded(both), within_s=10)
    private_redis.kill()
    given += await spend(both, 40)
    assert given == 40


async def _undegraded(service: Any) -> bool:
    decision = await service.check("slow", subject=SHOP, mode="peek")
    return not decision["degraded"]


async def test_without_both_each_policy_says_what_holds(
    both: Any, private_postgres: PostgresServer, private_redis: RedisServer
) -> None:
    await both.put("open", **HOURLY, on_failure="open")
    await both.put("other", **HOURLY)
    await both.put("closed", **HOURLY, on_failure="closed")
    await both.put("patient", **HOURLY, on_failure="closed", max_degraded_s=60.0)
    given = await spend(both, 30)
    private_postgres.kill()
    private_redis.kill()

    given += await spend(both, 30)
    assert given == 40  # local goes on from what it last saw
    reply = await both.call("POST", "/check", {"policies": ["slow"], "subject": SHOP})
    assert reply.headers["Mainstay-Backend"] == "local"
    assert reply.headers["Degraded"].startswith("postgres;")
    assert await spend(both, 50, "open") == 50
    both_ways = [await both.check("open", "other", subject=SHOP) for _ in range(50)]
    assert sum(each["allowed"] for each in both_ways) == 20  # what is open opens nothing else
    assert await spend(both, 50, "patient") == 20  # never seen here: half of it
    for verb in ("/check", "/enforce"):
        reply = await both.call("POST", verb, {"policies": ["closed"], "subject": SHOP})
        assert (reply.status, reply.body["code"]) == (503, "limits_unavailable")
        assert reply.body["retryable"]
    async with both.http.get(f"{both.url}/readyz") as answer:
        assert answer.status == 200

    private_postgres.start()
    await road(both, "postgres")
    assert await spend(both, 20) == 0
    assert await spend(both, 30, "patient") == 0  # the other half may have gone elsewhere


async def test_a_redis_that_was_restarted_meanwhile_does_not_decide(
    both: Any, private_postgres: PostgresServer, private_redis: RedisServer
) -> None:
    given = await spend(both, 20)
    link = both.app[REDIS_BUCKETS]._link
    before = link.run_id
    private_postgres.kill()
    private_redis.restart()
    await eventually(lambda: link.run_id not in {None, before}, within_s=10)
    given += await spend(both, 40)
    assert given == 40
    assert (await both.check("slow", subject=SHOP, mode="peek"))["backend"] == "local"
    private_postgres.start()
    await road(both, "redis")
    assert await spend(both, 5) == 0


async def test_what_was_given_out_alone_is_not_forgotten_when_redis_answers_again(
    both: Any, private_postgres: PostgresServer, private_redis: RedisServer
) -> None:
    given = await spend(both, 20)
    private_postgres.kill()
    private_redis.pause()
    given += await spend(both, 5)
    private_redis.resume()
    await eventually(lambda: both.app[REDIS_BUCKETS]._link.run_id, within_s=10)
    given += await spend(both, 5)
    private_postgres.start()
    await road(both, "redis")
    given += await spend(both, 40)
    assert given == 40


async def test_a_change_of_policy_needs_the_database(
    both: Any, private_postgres: PostgresServer
) -> None:
    private_postgres.kill()
    reply = await both.call("PUT", "/policies/slow", HOURLY)
    assert (reply.status, reply.body["code"]) == (503, "database_unavailable")


async def test_a_frozen_postgres_delays_a_few_and_then_local_decides(
    start: Any, dsn: str, private_postgres: PostgresServer
) -> None:
    service = await start(database_url=dsn, ratelimit_decision_s=0.25)
    await service.put("slow", **HOURLY)
    given = await spend(service, 10)
    private_postgres.pause()
    started = time.monotonic()
    given += await spend(service, 40)
    assert time.monotonic() - started < 3
    assert given == 40
    private_postgres.resume()
    await road(service, "postgres")
    assert await spend(service, 5) == 0


@pytest.mark.chaos
async def test_what_was_spent_survives_a_crash_of_postgres(
    start: Any, dsn: str, private_postgres: PostgresServer
) -> None:
    service = await start(database_url=dsn)
    await service.put("slow", **HOURLY)
    assert await spend(service, 25) == 25
    # A commit that waits for the disk takes with it all that came before.
    await service.put("other", **HOURLY)
    private_postgres.kill()
    private_postgres.start()
    later = await start(database_url=dsn)
    assert await spend(later, 40) == 15


@pytest.mark.parametrize("is_noticed", [True, False])
async def test_what_postgres_forgets_in_a_crash_is_told_again(
    start: Any, dsn: str, private_postgres: PostgresServer, is_noticed: bool
) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("alter system set wal_writer_delay = '10s'")
    await connection.execute("select pg_reload_conf()")
    await connection.close()
    service = await start(database_url=dsn)
    await service.put("slow", **HOURLY)
    assert await spend(service, 25) == 25
    private_postgres.kill()
    if is_noticed:
        await road(service, "local")
    private_postgres.start()  # else it is back before anybody has asked it
    await road(service, "postgres")
    assert await spend(service, 40) == 15


async def test_what_is_spent_in_a_rush_waits_for_postgres_and_not_for_long(
    both: Any, dsn: str
) -> None:
    """A share is four of forty: nobody was told of two that Postgres does not know."""
    await spend(both, 1)
    connection = await asyncpg.connect(dsn)
    blocked = connection.transaction()
    await blocked.start()
    await connection.execute("lock table rate_limit_record in share mode")
    await spend(both, 6)
    began = time.monotonic()
    assert await spend(both, 1) == 1
    assert switch.CONFIRM_S <= time.monotonic() - began < 1
    await blocked.rollback()
    await connection.close()
    await eventually(lambda: not both.app[LEDGER].waiting)
    assert not both.app[LEDGER].is_late(["{s:a}:slow"])


async def test_without_postgres_an_epoch_that_one_has_left_ends_for_all(
    start: Any, dsn: str, private_postgres: PostgresServer, private_redis: RedisServer
) -> None:
    """Else one gives out its share, beside others who give out everything."""
    async with TcpProxy.before(private_redis.url) as redis:
        a = await start(database_url=dsn, redis_url=redis.url(private_redis.url))
        b = await start(database_url=dsn, redis_url=private_redis.url)
        await a.put("slow", **HOURLY)
        asked = {"policies": ["slow"], "subject": SHOP, "mode": "peek"}
        await eventually(lambda: _answers(b, asked), within_s=6)
        for each in (a, b):
            await road(each, "redis")
        assert await spend(b, 1) == 1  # now Redis knows the key
        private_postgres.kill()
        await eventually(lambda: _decided_by(b, "redis"), within_s=10)
        redis.resets()
        await eventually(lambda: _decided_by(a, "local"), within_s=10)
        await redis.passes()
        await eventually(lambda: _decided_by(b, "local"), within_s=10)


async def _decided_by(service: Any, backend: str) -> bool:
    """And something is missing."""
    decision = await service.check("slow", subject=SHOP, mode="peek")
    return bool((decision["backend"], decision["degraded"]) == (backend, True))


async def _answers(service: Any, asked: dict[str, Any]) -> bool:
    return bool((await service.call("POST", "/check", asked)).status == 200)
