"""Limits that Postgres decides whoever's turn it is, alone and beside others."""

from typing import Any

import pytest_asyncio

from chassis import migrate
from localstack.servers.postgres import PostgresServer
from localstack.servers.redis import RedisServer
from ratelimit_service.__main__ import MIGRATIONS
from testkit.signals import eventually

SHOP = {"shop": "a"}
BIG = {"key": "shop", "rate": "1/h", "burst": 40}
SMALL = {"key": "shop", "rate": "1/h", "burst": 4}
STRICT = {**BIG, "consistency": "strict"}


@pytest_asyncio.fixture
async def both(start: Any, private_redis: RedisServer) -> Any:
    return await begun(start, redis_url=private_redis.url)


async def begun(start: Any, **settings: Any) -> Any:
    service = await start(**settings)
    await service.put("big", **BIG)
    await service.put("small", **SMALL)
    await service.put("strict", **STRICT)
    await road(service, "redis")
    return service


async def road(service: Any, wanted: str) -> None:
    async def there() -> bool:
        return bool(await service.road() == wanted)

    await eventually(there, within_s=10)


async def ask(service: Any, *names: str, **asked: Any) -> Any:
    return await service.check(*names, subject=SHOP, **asked)


async def remaining(service: Any, name: str) -> int:
    decision = await ask(service, name, mode="peek")
    left: int = decision["limits"][0]["remaining"]
    return left


async def test_they_are_decided_in_postgres_while_redis_decides_the_rest(both: Any) -> None:
    assert (await ask(both, "big"))["backend"] == "redis"
    for name in ("small", "strict"):
        assert (await ask(both, name))["backend"] == "postgres"


async def test_a_flushed_redis_gives_out_nothing_of_them(
    both: Any, private_redis: RedisServer
) -> None:
    given = [await ask(both, "small") for _ in range(4)]
    private_redis.restart()
    given += [await ask(both, "small") for _ in range(4)]
    assert sum(each["allowed"] for each in given) == 4


async def test_what_was_taken_is_given_back_when_the_rest_refuses(both: Any) -> None:
    await ask(both, "big", cost=40)
    decision = await ask(both, "small", "big", "strict")
    assert not decision["allowed"]
    assert [each["violated"] for each in decision["limits"]] == [False, True, False]
    assert await remaining(both, "small") == 4
    assert await remaining(both, "strict") == 40


async def test_nothing_is_taken_elsewhere_when_they_refuse(both: Any) -> None:
    await ask(both, "small", cost=4)
    decision = await ask(both, "big", "strict", "small")
    assert not decision["allowed"]
    assert await remaining(both, "big") == 40
    assert await remaining(both, "strict") == 40


async def test_a_batch_with_both_is_decided_in_order(both: Any) -> None:
    items = [{"policies": ["small", "big"], "subject": SHOP} for _ in range(6)]
    reply = await both.call("POST", "/check:batch", {"items": items})
    assert [each["allowed"] for each in reply.body["results"]] == [True] * 4 + [False] * 2
    assert await remaining(both, "big") == 36
    reply = await both.call("POST", "/check:batch", {"items": items[:2], "atomic": True})
    assert not any(each["allowed"] for each in reply.body["results"])
    assert await remaining(both, "big") == 36


async def test_without_postgres_strict_is_503_and_small_is_what_its_policy_says(
    start: Any, private_postgres: PostgresServer, private_redis: RedisServer
) -> None:
    await migrate.migrate(private_postgres.url, MIGRATIONS)
    both = await begun(start, database_url=private_postgres.url, redis_url=private_redis.url)
    await both.put("shut", **SMALL, on_failure="closed")
    assert (await ask(both, "small", "big", cost=2))["allowed"]
    assert (await ask(both, "strict", cost=25))["allowed"]
    private_postgres.kill()
    reply = await both.call("POST", "/check", {"policies": ["strict"], "subject": SHOP})
    assert (reply.status, reply.body["code"]) == (503, "limits_unavailable")
    reply = await both.call("POST", "/check", {"policies": ["shut"], "subject": SHOP})
    assert (reply.status, reply.body["code"]) == (503, "limits_unavailable")
    decisions = [await ask(both, "small", "big") for _ in range(4)]
    assert [each["allowed"] for each in decisions] == [True, True, False, False]
    assert {each["backend"] for each in decisions} == {"local"}
    assert await remaining(both, "big") == 36  # which Redis has decided all the while

    private_postgres.start()
    await road(both, "redis")

    async def is_back() -> bool:
        decision = await ask(both, "small", mode="peek")
        return bool(decision["backend"] == "postgres")

    await eventually(is_back, within_s=10)
    assert not (await ask(both, "small"))["allowed"]
    assert await remaining(both, "strict") == 15  # the disk knew before the caller
