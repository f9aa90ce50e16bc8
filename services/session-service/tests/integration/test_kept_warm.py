"""Pairs that are renewed before anybody waits for it, and those that nobody uses."""

import asyncio
from typing import Any

from session_service.app import DATABASE, GRANTS, USED
from session_service.core.warming import Warming
from session_service.loops.refresh import RefreshLoop
from session_service.store.grants import PostgresGrants
from session_service.store.leases import PostgresLeases
from session_service.store.runs import PostgresRuns
from testkit.clock import FakeClock
from testkit.shopify.apps import session, settings
from testkit.shopify.server import MockShopify
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
TOKEN = f"/v1/shops/{SHOP}/token"
DAY_MS = 86_400_000


async def put(service: Any, document: dict[str, Any]) -> None:
    answer = await service.call("PUT", f"/v1/sessions/{document['id']}", document)
    assert answer.status == 200, answer.raw


def asked(shopify: MockShopify, shop: str | None = SHOP) -> list[str]:
    return [call.detail for call in shopify.called("token", shop)]


async def test_what_is_in_use_is_renewed_before_anybody_waits(
    start: Any, shopify: MockShopify, clock: FakeClock
) -> None:
    service = await start(**settings(shopify), clock=clock)
    now_ms = int(clock.now().timestamp() * 1000)
    used, idle = SHOP, "idle.myshopify.com"
    for shop in (used, idle):
        await put(service, session(shopify, shop, expires=now_ms + 3_600_000))
    before = (await service.get(TOKEN)).body
    loop = RefreshLoop(service.app[GRANTS], service.app[USED])
    clock.advance(3_600 - 601)
    await loop.run_once()
    assert asked(shopify, None) == []
    clock.advance(601 - 301)
    await loop.run_once()
    await loop.run_once()
    assert asked(shopify, None) == ["refresh"]
    after = (await service.get(TOKEN)).body
    assert after["access_token"] != before["access_token"]
    assert asked(shopify, used) == ["refresh"]


async def test_what_nobody_used_for_an_hour_is_left_alone(
    start: Any, shopify: MockShopify, clock: FakeClock
) -> None:
    service = await start(**settings(shopify), clock=clock)
    now_ms = int(clock.now().timestamp() * 1000)
    await put(service, session(shopify, SHOP, expires=now_ms + 5_400_000))
    assert (await service.get(TOKEN)).status == 200
    clock.advance(5_300)
    await RefreshLoop(service.app[GRANTS], service.app[USED]).run_once()
    assert asked(shopify) == []


async def warming(service: Any, clock: FakeClock) -> Warming:
    """Once the service's own loop has had its turn."""
    database = service.app[DATABASE]

    async def had_its_turn() -> bool:
        finished = "select 1 from periodic_run where name = 'keep_warm' and finished_at is not null"
        return bool(await database.fetchval(finished))

    await eventually(had_its_turn)
    return Warming(
        grants=service.app[GRANTS],
        store=PostgresGrants(database),
        leases=PostgresLeases(database),
        runs=PostgresRuns(database),
        clock=clock,
    )


async def test_idle_pairs_are_kept_warm_each_in_its_hour_of_the_day(
    start: Any, shopify: MockShopify, clock: FakeClock
) -> None:
    service = await start(**settings(shopify), clock=clock)
    warm = await warming(service, clock)
    now_ms = int(clock.now().timestamp() * 1000)
    shops = [f"shop-{n}.myshopify.com" for n in range(30)]
    for shop in shops:
        ends = {"refreshTokenExpires": now_ms + 29 * DAY_MS, "expires": now_ms}
        await put(service, session(shopify, shop, **ends))
    far = {"refreshTokenExpires": now_ms + 31 * DAY_MS, "expires": now_ms}
    await put(service, session(shopify, "far.myshopify.com", **far))
    per_hour = []
    for _ in range(24):
        per_hour.append(await warm.now())
        clock.advance(3600)
    assert sum(per_hour) == 30
    assert max(per_hour) < 10
    assert asked(shopify, "far.myshopify.com") == []


async def test_pairs_near_their_end_do_not_wait_for_their_hour(
    start: Any, shopify: MockShopify, clock: FakeClock
) -> None:
    service = await start(**settings(shopify), clock=clock)
    warm = await warming(service, clock)
    now_ms = int(clock.now().timestamp() * 1000)
    shops = [f"shop-{n}.myshopify.com" for n in range(6)]
    for shop in shops:
        await put(service, session(shopify, shop, refreshTokenExpires=now_ms + 6 * DAY_MS))
    shopify.uninstall(shops[0])
    assert await warm.now() == 5
    assert len(asked(shopify, None)) == 6
    assert await warm.now() == 0


async def test_leases_of_the_dead_are_swept(
    start: Any, shopify: MockShopify, clock: FakeClock
) -> None:
    service = await start(**settings(shopify), clock=clock)
    database = service.app[DATABASE]
    for name, age in (("dead", "2 hours"), ("dying", "1 minute")):
        await database.execute(
            "insert into grant_lease values ($1, gen_random_uuid(), now() - $2::text::interval)",
            name,
            age,
        )
    await (await warming(service, clock)).now()
    left = await database.fetch("select session_id from grant_lease")
    assert [row["session_id"] for row in left] == ["dying"]


async def test_an_hour_of_keeping_warm_is_one_replicas(
    start: Any, shopify: MockShopify, clock: FakeClock
) -> None:
    replicas = [await start(**settings(shopify), clock=clock) for _ in range(2)]
    turns = [await warming(replica, clock) for replica in replicas]
    assert [await turn.when_due() for turn in turns] == [None, None]
    await replicas[0].app[DATABASE].execute("delete from periodic_run")
    done = await asyncio.gather(*(turn.when_due() for turn in turns))
    assert sorted(done, key=str) == [0, None]
