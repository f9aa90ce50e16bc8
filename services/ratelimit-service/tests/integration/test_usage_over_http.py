"""What is seen of limits: usage, the top, simulations, events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest_asyncio

from contracts import events
from ratelimit_service import metrics
from ratelimit_service.api import keys
from ratelimit_service.app import DATABASE, USAGE_STORE
from ratelimit_service.core.usage import Flush, Row
from testkit.signals import eventually

SHOP, OTHER = "spring-garden.myshopify.com", "greek-olives.myshopify.com"
MINUTE_S = 60
CHECK = frozenset({"ratelimits:check"})


@pytest_asyncio.fixture
async def database(service: Any) -> AsyncIterator[asyncpg.Connection]:
    async with service.app[DATABASE].connection() as connection:
        yield connection


async def asked(service: Any, shop: str, count: int, policy: str = "tight") -> None:
    item = {"subject": {"shop": shop}, "policies": [policy]}
    reply = await service.call("POST", "/check:batch", {"items": [item] * count})
    assert reply.status == 200, reply.raw


async def told(connection: asyncpg.Connection, kind: str) -> list[dict[str, Any]]:
    rows = await connection.fetch("select envelope from outbox where type = $1 order by id", kind)
    return [events.Envelope.model_validate(row["envelope"]).data for row in rows]


async def test_the_top_and_the_usage_of_a_shop(service: Any) -> None:
    await service.put("tight", key="shop", rate="1/h", burst=5)
    await asked(service, SHOP, 8)
    await asked(service, OTHER, 6)
    await service.app[keys.USAGE].flush()
    top = (await service.call("GET", "/top?by=denied&minutes=5")).body["items"]
    assert [(each["shop"], each["allowed"], each["denied"]) for each in top] == [
        (SHOP, 5, 3),
        (OTHER, 5, 1),
    ]
    assert len((await service.call("GET", "/top?by=asked&limit=1")).body["items"]) == 1
    usage = (await service.call("GET", f"/shops/{SHOP}/usage?minutes=5")).body
    assert [each["denied"] for each in usage["policies"]] == [3]
    stand = {each["policy"]: each for each in usage["limits"]}
    assert stand["tight"]["remaining"] == 0
    assert stand["api"]["remaining"] == stand["api"]["limit"] == 100
    assert "api-ip" not in stand
    assert usage["backend"] == "postgres"


async def test_only_verified_shops_are_counted(service: Any) -> None:
    await service.check("api", subject={"shop": SHOP, "shop_verified": False, "ip": "192.0.2.1"})
    await service.check("api-ip", subject={"shop": SHOP, "ip": "192.0.2.1"})
    await service.check("api", subject={"shop": SHOP}, mode="peek")
    await service.app[keys.USAGE].flush()
    assert (await service.call("GET", "/top?by=asked")).body == {"items": []}


async def test_a_key_of_a_shop_reads_its_own_usage_alone(service: Any) -> None:
    own = {"shop": SHOP, "scopes": CHECK}
    assert (await service.call("GET", f"/shops/{SHOP}/usage", **own)).status == 200
    for path in (f"/shops/{OTHER}/usage", "/top"):
        assert (await service.call("GET", path, **own)).status == 403
    everything = {"shop": SHOP}
    assert (await service.call("GET", "/top", **everything)).body["code"] == "other_shop"
    reply = await service.call("POST", "/policies/api:simulate", {}, **everything)
    assert reply.body["code"] == "other_shop"


async def test_a_flush_that_is_sent_twice_is_counted_once(
    service: Any, database: asyncpg.Connection
) -> None:
    store, replica, minute = service.app[USAGE_STORE], uuid4(), 29_000_000
    rows = [Row(minute, f"shop-{n}", "api", allowed=n, denied=1, cost=n) for n in range(50)]
    flush = Flush(number=1, rows=rows, denials=[])
    await asyncio.gather(*(store.add(replica, flush) for _ in range(4)))
    await asyncio.gather(
        store.add(uuid4(), Flush(number=1, rows=rows[::-1], denials=[])),
        store.add(replica, Flush(number=2, rows=rows, denials=[])),
    )
    total = await database.fetchrow("select sum(allowed) as a, sum(denied) as d from usage_minute")
    assert (total["a"], total["d"]) == (3 * sum(range(50)), 3 * 50)


async def test_counts_leave_when_their_time_is_over(
    service: Any, database: asyncpg.Connection
) -> None:
    store = service.app[USAGE_STORE]
    now = int(await database.fetchval("select extract(epoch from now())")) // MINUTE_S
    rows = [Row(now - age, SHOP, "api", allowed=1) for age in (0, 119, 121, 10_000)]
    await store.add(uuid4(), Flush(number=1, rows=rows, denials=[]))
    await database.execute("update outbox set created_at = now() - interval '25 hours'")
    assert not await store.expire(hours=2)
    assert await database.fetchval("select count(*) from usage_minute") == 2
    assert await database.fetchval("select count(*) from outbox") == 0


async def test_a_simulation_says_who_would_have_been_denied(
    service: Any, database: asyncpg.Connection
) -> None:
    now = int(await database.fetchval("select extract(epoch from now())")) // MINUTE_S
    rows = [
        Row(now - age, f"shop-{n:03}", "api", allowed=n, cost=n)
        for age in range(1, 6)
        for n in range(1, 101)
    ]
    await service.app[USAGE_STORE].add(uuid4(), Flush(number=1, rows=rows, denials=[]))
    same = await service.call("POST", "/policies/api:simulate", {"minutes": 10})
    assert same.status == 200, same.raw
    assert (same.body["shops"], same.body["asked"], same.body["would_deny"]) == (100, 25_250, 0)
    less = (
        await service.call(
            "POST", "/policies/api:simulate", {"minutes": 10, "rate": "50/m", "burst": 10}
        )
    ).body
    assert less["would_deny"] > 0
    assert less["worst"][0]["shop"] == "shop-100"
    assert await database.fetchval("select spec->>'rate' from policy where id = 'api'") == "10/s"


async def test_what_cannot_be_simulated_is_named(service: Any) -> None:
    for change, pointer in (
        ({"rate": "20000/s"}, "/rate"),
        ({"minutes": 0}, "/minutes"),
        ({"limit": "10/d"}, "/limit"),
        ({"cost": 1}, "/cost"),
    ):
        reply = await service.call("POST", "/policies/api:simulate", change)
        assert reply.status == 422, reply.raw
        assert reply.body["errors"][0]["pointer"] == pointer
    assert (await service.call("POST", "/policies/none:simulate", {})).status == 404
    assert (await service.call("GET", "/top?by=nothing")).status == 422


async def test_a_change_of_a_policy_is_told_with_it(
    service: Any, database: asyncpg.Connection
) -> None:
    made = await service.put("fresh", key="shop", rate="1/s", burst=5)
    await service.put("fresh", key="shop", rate="1/s", burst=5)
    changed = await service.put("fresh", key="shop", rate="2/s", burst=5)
    await service.call("DELETE", "/policies/fresh")
    found = [e for e in await told(database, events.POLICY_CHANGED) if e["policy"] == "fresh"]
    assert [e["deleted"] for e in found] == [False, False, True]
    assert [e["version"] for e in found[:2]] == [made["version"], changed["version"]]
    for each in found:
        events.PolicyChanged.model_validate(each)


async def test_denials_are_told_once_for_a_shop_and_second_by_however_many_replicas(
    start: Any,
) -> None:
    replicas = [await start() for _ in range(2)]
    await replicas[0].put("tight", key="shop", rate="1/h", burst=11)
    await eventually(lambda: _know(replicas, "tight"), within_s=15)
    for service in replicas:
        service.app[keys.USAGE]._now = lambda: 1_000_000.5
        await asked(service, SHOP, 20)
        await service.app[keys.USAGE].flush()
    async with replicas[0].app[DATABASE].connection() as connection:
        found = await told(connection, events.STORE_DENIED)
    assert found == [{"shop": SHOP, "policy": "tight", "backend": "postgres"}]


def _know(replicas: list[Any], policy: str) -> bool:
    return all(r.app[keys.REPORTS]._policies.find(policy) for r in replicas)


async def test_a_limit_that_is_nearly_used_up_is_counted(service: Any) -> None:
    await service.put("near", key="shop", rate="1/h", burst=20)

    def near() -> int:
        return metrics.NEAR_LIMIT.labels("near").count

    before = near()
    await asked(service, SHOP, 16, "near")
    assert near() == before
    await service.check("near", subject={"shop": SHOP}, mode="peek")
    await asked(service, SHOP, 10, "near")
    assert near() == before + 4


async def test_a_change_of_the_decider_is_told_once(
    service: Any, database: asyncpg.Connection
) -> None:
    opened = "select return_to_redis(1, 'run', 'mark', 1, '0 s')"
    assert await database.fetchval(opened) == 2
    assert await database.fetchval(opened) is None
    # The replica itself, which knows no Redis, may be faster.
    for _ in range(3):
        await database.fetchval("select depart_from_redis(2)")
    found = await told(database, events.BACKEND_SWITCHED)
    assert found == [
        {"old": "postgres", "new": "redis", "epoch": 2, "generation": 1},
        {"old": "redis", "new": "postgres", "epoch": 3, "generation": 1},
    ]
    for each in found:
        events.BackendSwitched.model_validate(each)
