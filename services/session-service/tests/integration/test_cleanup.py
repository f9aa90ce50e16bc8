"""What can never work again goes, once an hour, and nothing else does."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from chassis.web import health
from session_service.api.keys import CLEANUP
from session_service.core import cleanup

SHOP = "greek-olives.myshopify.com"
HOUR_MS = 3_600_000
ADMIN = frozenset({"admin"})


def sessions() -> dict[str, tuple[dict[str, Any], bool]]:
    """name → (members, does it stay?)"""
    now = int(time.time() * 1000)
    gone, lately, later = now - 2 * HOUR_MS, now - HOUR_MS // 2, now + HOUR_MS
    return {
        "without an end": ({"accessToken": "a"}, True),
        "alive": ({"expires": later}, True),
        "ended": ({"expires": gone}, False),
        "ended within the grace": ({"expires": lately}, True),
        "can be renewed": (
            {"expires": gone, "refreshToken": "r", "refreshTokenExpires": later},
            True,
        ),
        "can be renewed for ever": ({"expires": gone, "refreshToken": "r"}, True),
        "could be renewed": (
            {"expires": gone - 1, "refreshToken": "r", "refreshTokenExpires": gone},
            False,
        ),
        "online, ended": ({"expires": gone, "isOnline": True, "refreshToken": "r"}, False),
        "far future": ({"expires": 8_640_000_000_000_000}, True),
    }


async def put_all(service: Any) -> None:
    for name, (members, _stays) in sessions().items():
        target = f"/v1/sessions/{name.replace(' ', '%20')}"
        answer = await service.call("PUT", target, {"id": name, "shop": SHOP, **members})
        assert answer.status == 200


async def left(service: Any) -> set[str]:
    answer = await service.call("GET", f"/v1/shops/{SHOP}/sessions")
    return {item["id"] for item in answer.body["items"]}


async def run(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_only_what_can_never_work_again_goes(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "CHUNK", 2)
    await put_all(service)
    answer = await service.call("POST", "/v1/maintenance/cleanup", scopes=ADMIN)
    assert answer.body == {"deleted": 3}
    assert await left(service) == {name for name, (_, stays) in sessions().items() if stays}


async def test_two_replicas_share_the_hour(start: Any, database: str) -> None:
    one, other = await start(), await start()
    for replica in (one, other):
        await replica.app[health.SUPERVISOR].stop()
    await run(database, "delete from periodic_run")
    await put_all(one)
    cleanups = [one.app[CLEANUP], other.app[CLEANUP]]
    removed = await asyncio.gather(*(each.when_due() for each in cleanups))
    assert sorted(removed, key=str) == [3, None]
    assert [await each.when_due() for each in cleanups] == [None, None]


async def test_the_next_hour_and_what_a_dead_replica_left_are_claimed(
    start: Any, database: str
) -> None:
    service = await start()
    await service.app[health.SUPERVISOR].stop()
    await service.app[CLEANUP].when_due()
    await run(database, "update periodic_run set started_at = now() - interval '61 minutes'")
    assert await service.app[CLEANUP].when_due() == 0
    await run(
        database,
        "update periodic_run set finished_at = null, started_at = now() - interval '6 minutes'",
    )
    assert await service.app[CLEANUP].when_due() == 0
    assert await service.app[CLEANUP].when_due() is None


async def test_cleanup_out_of_turn_is_for_operators(service: Any) -> None:
    answer = await service.call("POST", "/v1/maintenance/cleanup")
    assert (answer.status, answer.body["code"]) == (403, "missing_scope")


MANY = """
insert into shopify_session (id, shop, is_online, body, access_token, refresh_token, expires_ms,
    refresh_expires_ms, ends_ms, key_id, gen, version)
select 'many-' || n, 'shop-' || n, false, 'enc:v1:k1:body', 'enc:v1:k1:access',
       'enc:v1:k1:refresh', 1000, ends_ms, ends_ms, 'k1', n, n
from generate_series(1, 50100) as n,
     lateral (select case when n % 501 = 0 then $1::bigint else 2000 end as ends_ms) as e
"""


async def test_fifty_thousand_go_in_short_statements_and_no_refresh_token_that_lives(
    service: Any, database: str
) -> None:
    await service.app[health.SUPERVISOR].stop()
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(MANY, int(time.time() * 1000) + HOUR_MS)
        began = time.perf_counter()
        assert await service.app[CLEANUP].now() == 50_000
        # One second on a machine of its own, as `tools/bench sessions` measures it.
        assert time.perf_counter() - began < 10.0
        assert await connection.fetchval("select count(*) from shopify_session") == 100
    finally:
        await connection.close()
