"""Quotas from end to end: what is said of them, and that no change of the store forgets them."""

import time
from typing import Any

import pytest
import pytest_asyncio

from localstack.servers.redis import RedisServer
from ratelimit_service.__main__ import MIGRATIONS
from ratelimit_service.core import gcra
from ratelimit_service.store.buckets import PostgresBuckets
from ratelimit_service.store.lane import Lane
from testkit.databases import Databases
from testkit.signals import eventually

SHOP = {"shop": "a"}
# A window of ten years, so that hardly any run meets its end.
LONG = {"key": "shop", "algorithm": "fixed", "limit": "40/3650d"}
BIG = {"key": "shop", "rate": "1/h", "burst": 40}


async def ask(service: Any, *names: str, **asked: Any) -> Any:
    return await service.check(*names, subject=SHOP, **asked)


async def spend(service: Any, times: int, *names: str) -> int:
    return sum([(await ask(service, *names))["allowed"] for _ in range(times)])


async def road(service: Any, wanted: str) -> None:
    async def there() -> bool:
        return bool(await service.road() == wanted)

    await eventually(there, within_s=10)


@pytest_asyncio.fixture
async def both(start: Any, private_redis: RedisServer) -> Any:
    service = await start(redis_url=private_redis.url)
    await service.put("long", **LONG)
    await service.put("big", **BIG)
    await road(service, "redis")
    return service


async def test_a_fixed_quota_says_how_many_are_left_and_when_its_window_ends(service: Any) -> None:
    await service.put("long", **LONG)
    decision = await ask(service, "long", cost=15)
    [state] = decision["limits"]
    assert (state["limit"], state["remaining"], state["window_s"]) == (40, 25, 3650 * 86_400)
    length_ms = 3650 * 86_400_000
    until_ms = length_ms - time.time() * 1000 % length_ms
    assert abs(state["reset_ms"] - until_ms) < 60_000
    decision = await ask(service, "long", cost=26)
    assert not decision["allowed"]
    assert abs(decision["retry_after_ms"] - until_ms) < 60_000
    assert (await ask(service, "long", cost=41))["unsatisfiable"]
    assert (await ask(service, "long", cost=25))["allowed"]


async def test_a_sliding_quota_frees_what_the_window_before_weighs(service: Any) -> None:
    await service.put("sliding", key="shop", algorithm="sliding", limit="40/3650d")
    await ask(service, "sliding", cost=40)
    decision = await ask(service, "sliding", cost=10)
    length_ms = 3650 * 86_400_000
    until_ms = length_ms - time.time() * 1000 % length_ms
    # A quarter of the next window has to pass until ten of forty weigh nothing.
    assert abs(decision["retry_after_ms"] - until_ms - length_ms / 4) < 60_000


async def test_a_quota_and_a_bucket_pass_together_or_not_at_all(both: Any) -> None:
    assert await spend(both, 10, "long", "big") == 10
    await ask(both, "big", cost=30)
    assert await spend(both, 5, "long", "big") == 0
    assert (await ask(both, "long", mode="peek"))["limits"][0]["remaining"] == 30


async def test_a_quota_survives_the_loss_of_redis_and_its_return(
    both: Any, private_redis: RedisServer
) -> None:
    given = await spend(both, 13, "long")
    private_redis.kill()
    given += await spend(both, 8, "long")
    assert (await ask(both, "long", mode="peek"))["backend"] == "postgres"
    private_redis.start()
    await road(both, "redis")
    given += await spend(both, 40, "long")
    assert given == 40
    assert (await ask(both, "long", mode="peek"))["backend"] == "redis"


async def test_concurrency_is_not_for_checks(service: Any) -> None:
    await service.put("exports", key="shop", algorithm="concurrency", limit=2, lease_s=30)
    await service.put("big", **BIG)
    asked = {"policies": ["big", "exports"], "subject": SHOP}
    reply = await service.call("POST", "/check", asked)
    assert reply.status == 422
    assert [each["pointer"] for each in reply.body["errors"]] == ["/policies/1"]
    assert (await ask(service, "big", mode="peek"))["limits"][0]["remaining"] == 40


@pytest_asyncio.fixture
async def buckets(make_database: Databases) -> Any:
    lane = Lane(await make_database(MIGRATIONS), budget_s=5)
    yield PostgresBuckets(decisions=lane, bookkeeping=lane)
    lane.close()


def used(number: int, count: int, before: int = 0) -> gcra.Level:
    span = gcra.Span(number, before, 0, 60_000_000, 60_000_000)
    return gcra.Level(count, gcra.Pace(1, 100, 1), span)


@pytest.mark.parametrize(
    ("there", "given", "kept"),
    [
        (used(7, 5, 2), used(7, 3, 4), (7, 5, 4)),
        (used(7, 5, 2), used(8, 1, 3), (8, 1, 5)),
        (used(7, 5, 2), used(6, 9, 9), (7, 5, 9)),
        (used(7, 5, 2), used(5, 9, 9), (7, 5, 2)),
        (used(7, 5, 2), used(9, 1, 3), (9, 1, 3)),
    ],
)
async def test_the_later_window_stays_and_in_one_window_the_larger_count(
    buckets: PostgresBuckets, there: gcra.Level, given: gcra.Level, kept: tuple[int, int, int]
) -> None:
    await buckets.merge({"k": there})
    await buckets.merge({"k": given})
    await buckets.merge({"k": given})
    window = gcra.Window(1, 0, 60_000_000, 60_000_000)
    level = (await buckets.debts({"k": gcra.Pace(1, 100, 1)}, {"k": window}))["k"]
    assert level.span is not None
    assert (level.span.number, level.used, level.span.before) == kept


async def test_what_is_put_replaces_what_is_there(buckets: PostgresBuckets) -> None:
    pace = gcra.Pace(1_000_000, 10_000_000, 1)
    await buckets.merge({"b": gcra.Level(9_000_000, pace), "q": used(7, 50, 50)})
    await buckets.put({"b": gcra.Level(1_000_000, pace), "q": used(7, 2)})
    window = gcra.Window(1, 0, 60_000_000, 60_000_000)
    levels = await buckets.debts({"b": pace, "q": gcra.Pace(1, 100, 1)}, {"q": window})
    assert levels["b"].debt_us <= 1_000_000
    assert (levels["q"].used, levels["q"].span and levels["q"].span.before) == (2, 0)
