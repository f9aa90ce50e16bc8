"""The rules of giving back, observing, permits and penalties, each where breaking it would show."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from chassis import migrate
from localstack.servers.postgres import PostgresServer
from ratelimit_service.__main__ import MIGRATIONS
from ratelimit_service.app import DATABASE, LESSONS, NONCES, PERMITS
from ratelimit_service.core.permits import Place
from ratelimit_service.store import permits
from ratelimit_service.store.learned import PostgresLessons
from testkit.signals import eventually

MINE, OTHER = "mine.myshopify.com", "other.myshopify.com"
SHOP = {"shop": MINE}
SLOW = {"key": "shop", "rate": "1/h", "burst": 100}
LEARNS = {"key": "shop", "rate": "100/s", "burst": 2000, "learn": True}
PLACES = {"key": "shop", "algorithm": "concurrency", "limit": 2, "lease_s": 30}


async def left(service: Any, policy: str = "slow", shop: str = MINE) -> int:
    reply = await service.call("GET", f"/peek?policy={policy}&shop={shop}")
    return int(reply.body["limits"][0]["remaining"])


async def rows(service: Any, sql: str) -> list[asyncpg.Record]:
    found: list[asyncpg.Record] = await service.app[DATABASE].fetch(sql)
    return found


@pytest_asyncio.fixture
async def beside_redis(
    start: Any, private_postgres: PostgresServer, redis_url: str
) -> AsyncIterator[Any]:
    """Redis decides, and Postgres is the test's to stop."""
    await migrate.migrate(private_postgres.url, MIGRATIONS)
    service = await start(database_url=private_postgres.url, redis_url=redis_url)
    await service.put("slow", **SLOW)
    await service.put("places", **PLACES)

    async def is_redis() -> bool:
        return bool(await service.road() == "redis")

    await eventually(is_redis, within_s=20)
    yield service


async def test_without_postgres_nothing_is_given_back_or_reset_and_no_permit_is_given(
    beside_redis: Any, private_postgres: PostgresServer
) -> None:
    """Rule 4: the nonce comes first. Redis would have credited."""
    service = beside_redis
    token = (await service.check("slow", subject=SHOP, cost=40))["token"]
    held = await service.call("POST", "/permits", {"policy": "places", "subject": SHOP})
    calls = [
        ("POST", "/refund", {"token": token}),
        ("POST", "/reset", {"policy": "slow", "subject": SHOP}),
        ("POST", "/permits", {"policy": "places", "subject": SHOP}),
        ("PUT", f"/permits/{held.body['id']}", {"ttl_ms": 1000}),
        ("DELETE", f"/permits/{held.body['id']}", None),
    ]
    private_postgres.kill()
    for call in calls:
        reply = await service.call(*call)
        assert (reply.status, reply.body["code"]) == (503, "database_unavailable"), call
    assert await left(service) == 60
    private_postgres.start()

    async def is_back() -> bool:
        reply = await service.call("POST", "/refund", {"token": token})
        return bool(reply.status == 200 and reply.body == {"refunded": 40})

    await eventually(is_back, within_s=10)
    assert await left(service) == 100


async def test_a_refund_after_the_window_gains_nothing(service: Any) -> None:
    await service.put("second", key="shop", algorithm="fixed", limit="100/s")
    token = (await service.check("second", subject=SHOP, cost=30))["token"]

    async def is_another_window() -> bool:
        return await left(service, "second") == 100

    await eventually(is_another_window)
    reply = await service.call("POST", "/refund", {"token": token})
    assert reply.body == {"refunded": 0}
    assert await rows(service, "select from refund") == []


async def test_a_reservation_is_cancelled_by_its_token(service: Any) -> None:
    await service.put("pace", key="sender", rate="1/m", burst=1)
    asked = {"policies": ["pace"], "subject": {"sender": "+30690"}, "max_wait_ms": 600_000}
    slots = [(await service.call("POST", "/reserve", asked)).body for _ in range(3)]
    await service.call("POST", "/refund", {"token": slots[2]["token"]})
    again = (await service.call("POST", "/reserve", asked)).body
    assert slots[2]["wait_ms"] - 2000 < again["wait_ms"] <= slots[2]["wait_ms"]


async def test_every_decision_that_takes_has_a_token_of_its_own(service: Any) -> None:
    await service.put("slow", **SLOW)
    items = [{"policies": ["slow"], "subject": SHOP, "cost": cost} for cost in (10, 0, 200, 5)]
    reply = await service.call("POST", "/check:batch", {"items": items})
    tokens = [each["token"] for each in reply.body["results"]]
    assert [token is not None for token in tokens] == [True, False, False, True]
    for token, back in ((tokens[3], 5), (tokens[0], 10)):
        reply = await service.call("POST", "/refund", {"token": token})
        assert reply.body == {"refunded": back}


async def test_what_took_nothing_has_no_token(service: Any) -> None:
    """Else a refund of it would give back what others took."""
    await service.put("slow", **SLOW)
    await service.put("narrow", key="shop", rate="1/h", burst=1)
    for policies, asked in (
        (["slow"], {"mode": "peek"}),
        (["slow", "narrow"], {"cost": 2}),
        (["slow"], {"cost": 0}),
    ):
        assert (await service.check(*policies, subject=SHOP, **asked))["token"] is None
    items = [{"policies": ["slow"], "subject": SHOP, "cost": 60} for _ in range(2)]
    reply = await service.call("POST", "/check:batch", {"items": items, "atomic": True})
    assert [each["token"] for each in reply.body["results"]] == [None, None]


async def test_a_key_of_one_shop_moves_nobody_elses_limits(service: Any) -> None:
    await service.put("slow", **SLOW)
    await service.put("places", **PLACES)
    decision = await service.check("slow", subject={"shop": OTHER}, cost=40)
    lease = {"policy": "slow", "subject": {"shop": OTHER}, "want": 10, "ttl_ms": 60_000}
    leased = (await service.call("POST", "/leases", lease)).body
    asked = {"policy": "places", "subject": {"shop": OTHER}}
    permit = (await service.call("POST", "/permits", asked)).body
    moves: list[tuple[str, str, Any, int]] = [
        ("POST", "/refund", {"token": decision["token"]}, 403),
        ("DELETE", f"/leases/{leased['id']}?unspent=5", None, 403),
        ("POST", "/leases", lease, 403),
        ("POST", "/penalize", {"policy": "slow", "subject": {"shop": OTHER}, "cost": 1}, 403),
        ("POST", "/observe", {"policy": "slow", "shop": OTHER, "available": 0}, 403),
        ("POST", "/reset", {"policy": "slow", "subject": {"shop": MINE}}, 403),
        ("GET", f"/peek?policy=slow&shop={OTHER}", None, 403),
        ("GET", f"/enforce?policy=slow&shop={OTHER}", None, 403),
        ("POST", "/permits", asked, 403),
        ("PUT", f"/permits/{permit['id']}", {"ttl_ms": 1000}, 404),
        ("DELETE", f"/permits/{permit['id']}", None, 204),
    ]
    for method, path, value, status in moves:
        reply = await service.call(method, path, value, shop=MINE)
        assert reply.status == status, (path, reply.raw)
    assert await left(service, shop=OTHER) == 50
    again = await service.call("POST", "/permits", asked | {"weight": 2})
    assert again.body["in_use"] == 1
    assert again.body["retry_after_ms"] > 1000, "for as long as it was taken"


async def test_a_key_of_one_shop_moves_its_own(service: Any) -> None:
    await service.put("slow", **SLOW)
    await service.put("places", **PLACES)
    asked = {"policies": ["slow"], "subject": SHOP, "cost": 40}
    decision = (await service.call("POST", "/check", asked, shop=MINE)).body
    reply = await service.call("POST", "/refund", {"token": decision["token"]}, shop=MINE)
    assert reply.body == {"refunded": 40}
    asked = {"policy": "places", "subject": SHOP}
    permit = (await service.call("POST", "/permits", asked, shop=MINE)).body
    path = f"/permits/{permit['id']}"
    assert (await service.call("PUT", path, {"ttl_ms": 1000}, shop=MINE)).status == 200
    await service.call("DELETE", path, shop=MINE)
    assert (await service.call("PUT", path, {"ttl_ms": 1000}, shop=MINE)).status == 404


async def test_moving_needs_its_scope(service: Any) -> None:
    check = frozenset({"ratelimits:check"})
    reply = await service.call("POST", "/reset", {"policy": "api", "subject": SHOP}, scopes=check)
    assert (reply.status, reply.body["code"]) == (403, "missing_scope")


async def test_a_reset_is_recorded(service: Any) -> None:
    await service.put("slow", **SLOW)
    asked = {"policy": "slow", "subject": SHOP, "reason": "they asked"}
    assert (await service.call("POST", "/reset", asked)).status == 200
    [row] = await rows(service, "select * from audit where action = 'reset'")
    assert (row["author"], row["subject"]) == ("k", f"{{s:{MINE}}}:slow")
    assert row["after"] == {"reason": "they asked"}


async def test_what_is_on_its_way_stays_counted_when_the_upstream_has_not_seen_it(
    service: Any,
) -> None:
    """Rule 5: set to what the upstream says, the calls in flight would be let out twice."""
    await service.put("slow", **SLOW)
    told = {"policy": "slow", "shop": MINE, "maximum": 100.0, "available": 100.0}
    await service.check("slow", subject=SHOP, cost=70)
    reply = await service.call("POST", "/observe", told)
    assert reply.body["limits"][0]["remaining"] == 30


async def test_what_was_observed_a_while_ago_has_drained_since(service: Any) -> None:
    await service.put("quick", key="shop", rate="1/s", burst=1000)
    told = {"policy": "quick", "shop": MINE, "available": 0, "age_ms": 600_000}
    reply = await service.call("POST", "/observe", told)
    assert 600 <= reply.body["limits"][0]["remaining"] <= 602


async def test_rate_and_size_are_learned_for_a_shop_by_all_replicas(start: Any) -> None:
    one, two = await start(), await start()
    await one.put("learns", **LEARNS)
    told = {"policy": "learns", "shop": MINE, "maximum": 20_000.0, "restore_rate": 1000.0}
    reply = await one.call("POST", "/observe", told | {"available": 19_000.0})
    assert reply.body["limits"][0]["limit"] == 20_000
    assert reply.body["limits"][0]["window_s"] == 20
    assert 19_000 <= reply.body["limits"][0]["remaining"] < 20_000

    async def is_known_there() -> bool:
        reply = await two.call("GET", f"/peek?policy=learns&shop={MINE}")
        return bool(reply.status == 200 and reply.body["limits"][0]["limit"] == 20_000)

    await eventually(is_known_there, within_s=6)
    reply = await two.call("GET", f"/peek?policy=learns&shop={OTHER}")
    assert reply.body["limits"][0]["limit"] == 2000


async def test_what_is_known_already_is_not_written_again(service: Any) -> None:
    await service.put("learns", **LEARNS)
    told = {"policy": "learns", "shop": MINE, "maximum": 2000.0, "restore_rate": 100.0}
    await service.call("POST", "/observe", told)
    assert await rows(service, "select from learned") == []
    for _ in range(2):
        await service.call("POST", "/observe", told | {"restore_rate": 200.0})
    [first] = await rows(service, "select * from learned")
    await service.call("POST", "/observe", told | {"restore_rate": 200.0})
    assert await rows(service, "select * from learned") == [first]
    assert (first["rate"], first["burst"]) == ("200/s", None)


async def test_two_replicas_that_learn_the_same_write_it_once(service: Any) -> None:
    lessons = PostgresLessons(service.app[DATABASE])
    said = [
        await lessons.keep(policy="learns", shop=MINE, rate=rate, burst=burst)
        for rate, burst in (("5/s", None), ("5/s", None), (None, 100), ("5/s", 100), ("6/s", None))
    ]
    first, second, third, fourth, fifth = said
    assert first == second
    assert first.version < third.version == fourth.version < fifth.version
    assert (fifth.rate, fifth.burst) == ("6/s", 100)


async def test_who_does_not_learn_is_only_raised(service: Any) -> None:
    await service.put("slow", **SLOW)
    told = {"policy": "slow", "shop": MINE, "maximum": 5.0, "restore_rate": 50.0, "available": 5.0}
    reply = await service.call("POST", "/observe", told)
    assert (reply.body["limits"][0]["limit"], reply.body["limits"][0]["remaining"]) == (100, 5)
    assert await rows(service, "select from learned") == []


@pytest.mark.parametrize(
    ("told", "pointer"),
    [
        ({"restore_rate": 10_001.0}, "/restore_rate"),
        ({"restore_rate": 0.0000001}, "/restore_rate"),
        ({"restore_rate": 0}, "/restore_rate"),
        ({"maximum": 1e9, "restore_rate": 0.00001}, "/maximum"),
        ({"available": -1}, "/available"),
        ({"age_ms": 600_001}, "/age_ms"),
        ({"policy": "daily"}, "/policy"),
        ({"policy": "api-ip"}, "/policy"),
        ({"policy": "places"}, "/policy"),
    ],
)
async def test_a_wrong_observation_is_422_and_changes_nothing(
    service: Any, told: Any, pointer: str
) -> None:
    await service.put("learns", **LEARNS)
    await service.put("places", **PLACES)
    await service.put("daily", key="shop", algorithm="fixed", limit="10/d")
    reply = await service.call("POST", "/observe", {"policy": "learns", "shop": MINE, **told})
    assert reply.status == 422, reply.raw
    assert reply.body["errors"][0]["pointer"] == pointer
    assert await rows(service, "select from learned") == []


async def test_a_lease_past_its_time_gives_nothing_back(service: Any) -> None:
    await service.put("slow", **SLOW)
    asked = {"policy": "slow", "subject": SHOP, "want": 10, "ttl_ms": 100}
    leased = (await service.call("POST", "/leases", asked)).body
    await eventually(lambda: time.time() * 1000 > leased["expires_ms"])
    reply = await service.call("DELETE", f"/leases/{leased['id']}?unspent=10")
    assert reply.body == {"refunded": 0}
    assert await left(service) == 90


async def test_a_lease_leaves_the_floor_and_takes_no_more_than_one_charge_may(
    service: Any,
) -> None:
    await service.put("floored", **SLOW, floors={"default": 0.3})
    await service.put("capped", **SLOW, max_cost=20)
    asked = {"subject": SHOP, "want": 1000, "ttl_ms": 1000}
    for policy, granted in (("floored", 70), ("capped", 20)):
        reply = await service.call("POST", "/leases", asked | {"policy": policy})
        assert reply.body["granted"] == granted


async def test_leases_that_are_asked_for_at_once_grant_what_there_is(service: Any) -> None:
    await service.put("slow", **SLOW)
    asked = {"policy": "slow", "subject": SHOP, "want": 30, "ttl_ms": 1000}
    replies = await asyncio.gather(*[service.call("POST", "/leases", asked) for _ in range(8)])
    assert sum(reply.body["granted"] for reply in replies) + await left(service) == 100


async def test_a_proxy_is_believed_about_the_last_address_alone(service: Any) -> None:
    await service.put("by-ip", key="ip", rate="1/h", burst=1)
    said = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7"}
    path = "/enforce?policy=by-ip"
    assert (await service.call("GET", path, headers=said)).status == 204
    said = {"X-Forwarded-For": "192.0.2.1, 203.0.113.7"}
    assert (await service.call("GET", path, headers=said)).status == 429
    assert (await service.call("GET", f"{path}&ip=198.51.100.9", headers=said)).status == 204
    reply = await service.call("GET", path)
    assert (reply.status, reply.pointers) == (422, ["/ip"])


async def test_a_query_is_wrong_at_its_place(service: Any) -> None:
    for path, status, pointer in (
        ("/peek?policy=api&shop=a&policy=none", 404, "/policy/1"),
        ("/peek?policy=api&ip=300.1.1.1", 422, "/ip"),
        ("/enforce?policy=api&ip=192.0.2.1&deny_status=200", 422, "/deny_status"),
        ("/peek?policy=api&shop=a&shop=b", 422, "/shop"),
        ("/peek?shop=a", 422, "/policy"),
    ):
        reply = await service.call("GET", path)
        assert (reply.status, reply.pointers) == (status, [pointer]), path


async def test_who_counts_permits_sees_those_that_were_given_while_it_waited(
    service: Any,
) -> None:
    """Rule 6: locked and counted in one statement, two of one place would be given."""
    await service.put("places", **PLACES | {"limit": "1"})
    place = Place("places", f"{{s:{MINE}}}:places", weight=1, limit=1)
    asked = {"policy": "places", "subject": SHOP}
    async with service.app[DATABASE].transaction() as connection:
        await connection.execute(permits.QUERIES.lock, place.key)
        taking = asyncio.create_task(service.call("POST", "/permits", asked))

        async def waits() -> bool:
            waiting = "select from pg_locks where locktype = 'advisory' and not granted"
            return taking.done() or bool(await rows(service, waiting))

        await eventually(waits)
        held = await connection.fetchrow(
            permits.QUERIES.take, uuid.uuid4(), place.key, place.policy, 1, 30.0, 1
        )
        assert held["expires_ms"]
    reply = await taking
    assert (reply.body["allowed"], reply.body["in_use"]) == (False, 1)


async def test_a_permit_that_is_held_outlives_a_smaller_limit(service: Any) -> None:
    await service.put("places", **PLACES)
    held = str(uuid.uuid4())
    asked = {"policy": "places", "subject": SHOP}
    await service.call("POST", "/permits", asked)
    await service.call("POST", "/permits", asked | {"id": held})
    await service.put("places", **PLACES | {"limit": "1"})
    assert (await service.call("POST", "/permits", asked | {"id": held})).body["allowed"]
    assert not (await service.call("POST", "/permits", asked)).body["allowed"]


async def test_a_full_house_says_when_there_is_room_for_so_many(service: Any) -> None:
    await service.put("places", **PLACES)
    asked = {"policy": "places", "subject": SHOP}
    for ttl_ms in (10_000, 60_000):
        await service.call("POST", "/permits", asked | {"ttl_ms": ttl_ms})
    for weight, soonest, latest in ((1, 5_000, 10_000), (2, 55_000, 60_000)):
        reply = await service.call("POST", "/permits", asked | {"weight": weight})
        assert soonest < reply.body["retry_after_ms"] <= latest


async def test_an_id_of_our_own_kind_is_refused(service: Any) -> None:
    await service.put("places", **PLACES)
    asked = {"policy": "places", "subject": SHOP, "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, "x"))}
    reply = await service.call("POST", "/permits", asked)
    assert (reply.status, reply.pointers) == (422, ["/id"])


async def test_what_is_over_is_swept(service: Any) -> None:
    await service.put("slow", **SLOW)
    await service.put("places", **PLACES)
    token = (await service.check("slow", subject=SHOP))["token"]
    await service.call("POST", "/refund", {"token": token})
    for _ in range(2):
        await service.call("POST", "/permits", {"policy": "places", "subject": SHOP})
    database = service.app[DATABASE]
    await database.execute("update refund set expires_at = now() - interval '1 second'")
    await database.execute(
        "update permit set expires_at = now() - interval '1 hour' "
        "where id = (select min(id::text)::uuid from permit)"
    )
    await service.app[NONCES].sweep()
    await service.app[PERMITS].sweep()
    assert await rows(service, "select from refund") == []
    assert len(await rows(service, "select from permit")) == 1


async def test_lessons_are_read_in_pages(service: Any) -> None:
    await service.put("learns", **LEARNS)
    await service.app[DATABASE].execute(
        "insert into learned (policy, shop, burst) "
        "select 'learns', 'shop-' || n, 500 from generate_series(1, 2500) n"
    )
    await service.app[LESSONS].read_on()
    assert await left(service, "learns", "shop-2500") == 500


async def test_a_penalty_waits_ten_minutes_at_most_and_never_lowers(service: Any) -> None:
    """Rule 7: what is owed beyond the cap, by a reservation, stays owed."""
    await service.put("pace", key="shop", rate="1/s", burst=10)
    asked = {"policies": ["pace"], "subject": SHOP, "cost": 10, "max_wait_ms": 600_000}
    for _ in range(61):
        assert (await service.call("POST", "/reserve", asked)).body["allowed"]
    penalty = {"policy": "pace", "subject": SHOP, "cost": 1_000_000}
    reply = await service.call("POST", "/penalize", penalty)
    assert 595_000 < reply.body["limits"][0]["reset_ms"] <= 602_000
