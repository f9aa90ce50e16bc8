"""What is given, penalized and reset while Redis decides is not undone when Postgres takes over."""

from typing import Any

import pytest_asyncio

from localstack.servers.redis import RedisServer
from ratelimit_service.app import LEDGER, SWITCH, TABLE
from ratelimit_service.core import gcra
from testkit.signals import eventually

SHOP = {"shop": "a"}
POLICY = {"key": "shop", "rate": "1/h", "burst": 40}
QUOTA = {"key": "shop", "algorithm": "sliding", "limit": "40/3650d"}


@pytest_asyncio.fixture
async def both(start: Any, private_redis: RedisServer) -> Any:
    service = await start(redis_url=private_redis.url)
    await service.put("big", **POLICY)
    await service.put("long", **QUOTA)

    async def there() -> bool:
        return bool(await service.road() == "redis")

    await eventually(there, within_s=10)
    return service


async def remaining(service: Any) -> list[int]:
    decision = await service.check("big", "long", subject=SHOP, mode="peek")
    return [each["remaining"] for each in decision["limits"]]


async def move(service: Any, op: gcra.Op, cost: int = 0, *, within: int = 0) -> None:
    limits = []
    for name in ("big", "long"):
        policy = service.app[TABLE].find(name)
        moment = policy.updated_at.timestamp() * 1_000_000
        key = f"{{s:a}}:{policy.key_name}"
        number = policy.calendar.window(int(moment)).number if policy.calendar else within
        wait_us = number if op is gcra.Op.GIVE else 0
        limits.append(policy.limit(key, cost, int(moment), op=op, wait_us=wait_us))
    await service.app[SWITCH].decide([gcra.Ask(tuple(limits))])


async def test_a_gift_is_seen_and_never_more_than_was_taken(both: Any) -> None:
    await both.check("big", "long", subject=SHOP, cost=10)
    await move(both, gcra.Op.GIVE, 4, within=4 * 3_600_000_000)
    assert await remaining(both) == [34, 34]
    await move(both, gcra.Op.GIVE, 40, within=40 * 3_600_000_000)
    assert await remaining(both) == [40, 40]


async def test_a_reset_reaches_postgres(both: Any, private_redis: RedisServer) -> None:
    await both.check("big", "long", subject=SHOP, cost=30)
    await eventually(lambda: not both.app[LEDGER].waiting)
    await move(both, gcra.Op.RESET)
    assert await remaining(both) == [40, 40]
    await both.check("big", "long", subject=SHOP, cost=1)
    private_redis.kill()
    assert await remaining(both) == [39, 39]


async def test_a_penalty_reaches_postgres(both: Any, private_redis: RedisServer) -> None:
    await move(both, gcra.Op.PENALIZE, 25)
    private_redis.kill()
    assert await remaining(both) == [15, 15]
    await move(both, gcra.Op.PENALIZE, 400)
    assert await remaining(both) == [0, 0]
