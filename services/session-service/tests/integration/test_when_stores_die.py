"""No store is logged out because a database of ours is away, and nobody is told a lie."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from session_service.app import COPIES
from session_service.cache.copies import PREFIX
from testkit.clock import FakeClock
from testkit.faults import TcpProxy
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
ID = f"offline_{SHOP}"
PATH = f"/v1/sessions/{ID}"
TOKEN = f"/v1/shops/{SHOP}/token"
PAST_MEMORY_S = 2.1


@pytest.fixture
def clock() -> FakeClock:
    """Begins now: cleanup goes by the time of the database."""
    return FakeClock(datetime.now(UTC))


def session(clock: FakeClock, **more: Any) -> dict[str, Any]:
    now_ms = int(clock.now().timestamp() * 1000)
    return {
        "id": ID,
        "shop": SHOP,
        "accessToken": "shpat_of_the_day",
        "expires": now_ms + 3_600_000,
        **more,
    }


async def test_a_session_outlives_the_process(start: Any, clock: FakeClock) -> None:
    before = await start(clock=clock)
    given = session(clock)
    await before.call("PUT", PATH, given)
    after = await start(clock=clock)
    assert (await after.call("GET", PATH)).body == given


async def test_another_replica_is_behind_for_two_seconds_at_most(
    start: Any, clock: FakeClock
) -> None:
    one, other = await start(clock=clock), await start(clock=clock)
    await one.call("PUT", PATH, session(clock, state="old"))
    assert (await other.call("GET", PATH)).headers["Mainstay-Backend"] == "postgres"
    await one.call("PUT", PATH, session(clock, state="new"))
    assert (await one.call("GET", PATH)).body["state"] == "new"
    assert (await other.call("GET", PATH)).headers["Mainstay-Backend"] == "memory"
    clock.advance(2.0)
    assert (await other.call("GET", PATH)).body["state"] == "new"


async def test_without_a_copy_an_absent_database_is_503_and_never_404(
    start: Any, database: str, clock: FakeClock
) -> None:
    async with TcpProxy.before(database) as proxy:
        service = await start(clock=clock, database_url=proxy.url(database))
        await service.call("PUT", PATH, session(clock))
        clock.advance(PAST_MEMORY_S)
        await proxy.refuses()
        for method, target, value in (
            ("GET", PATH, None),
            ("GET", "/v1/sessions/never-there", None),
            ("GET", TOKEN, None),
            ("GET", f"/v1/shops/{SHOP}/sessions", None),
            ("PUT", PATH, session(clock)),
            ("DELETE", PATH, None),
            ("DELETE", f"/v1/shops/{SHOP}", None),
        ):
            answer = await service.call(method, target, value)
            assert (answer.status, answer.body["code"]) == (503, "database_unavailable"), target
            assert answer.headers["Retry-After"] == "1"
            assert answer.body["retryable"] is True
        await proxy.passes()
        clock.advance(PAST_MEMORY_S)
        back = await service.call("GET", PATH)
        assert (back.body, back.headers["Mainstay-Backend"]) == (
            session(clock) | back.body,
            "postgres",
        )


async def test_a_copy_answers_while_the_database_does_not(
    start: Any, database: str, redis_url: str, clock: FakeClock
) -> None:
    given = session(clock)
    async with TcpProxy.before(database) as proxy:
        service = await start(clock=clock, database_url=proxy.url(database), redis_url=redis_url)
        await service.call("PUT", PATH, given)
        clock.advance(42)
        await proxy.refuses()
        read = await service.call("GET", PATH)
        assert read.body == given
        assert read.headers["Mainstay-Backend"] == "redis"
        assert read.headers["Degraded"] == "sessions;stale=42"
        token = await service.call("GET", TOKEN)
        assert token.body["access_token"] == given["accessToken"]
        assert token.headers["Degraded"] == "sessions;stale=42"
        unknown = await service.call("GET", "/v1/sessions/never-there")
        assert unknown.status == 503
        await proxy.passes()
        clock.advance(PAST_MEMORY_S)
        back = await service.call("GET", PATH)
        assert back.headers["Mainstay-Backend"] == "postgres"
        assert "Degraded" not in back.headers


async def test_a_read_makes_a_copy_too(
    start: Any, database: str, redis_url: str, clock: FakeClock
) -> None:
    writer = await start(clock=clock)
    await writer.call("PUT", PATH, session(clock))
    async with TcpProxy.before(database) as proxy:
        reader = await start(clock=clock, database_url=proxy.url(database), redis_url=redis_url)

        async def is_copied() -> bool:
            clock.advance(PAST_MEMORY_S)
            await reader.call("GET", PATH)
            return held_in(redis_url)

        await eventually(is_copied)
        await proxy.refuses()
        clock.advance(PAST_MEMORY_S)
        assert (await reader.call("GET", PATH)).headers["Mainstay-Backend"] == "redis"


async def test_a_frozen_database_costs_the_first_readers_a_second_and_the_next_nothing(
    start: Any, database: str, redis_url: str, clock: FakeClock
) -> None:
    async with TcpProxy.before(database) as proxy:
        service = await start(clock=clock, database_url=proxy.url(database), redis_url=redis_url)
        await service.call("PUT", PATH, session(clock))
        clock.advance(PAST_MEMORY_S)
        proxy.hangs()
        began = time.monotonic()
        answers = await asyncio.gather(*(service.call("GET", PATH) for _ in range(20)))
        assert {answer.headers["Mainstay-Backend"] for answer in answers} == {"redis"}
        assert time.monotonic() - began < 5
        began = time.monotonic()
        assert (await service.call("GET", PATH)).headers["Mainstay-Backend"] == "redis"
        assert time.monotonic() - began < 0.5
        await proxy.passes()


@pytest.mark.parametrize(("advance_s", "lives_s"), [(301, 3600), (100, 90)])
async def test_old_copies_and_ended_tokens_are_not_served(
    start: Any,
    database: str,
    redis_url: str,
    clock: FakeClock,
    advance_s: float,
    lives_s: int,
) -> None:
    expires = int(clock.now().timestamp() + lives_s) * 1000
    async with TcpProxy.before(database) as proxy:
        service = await start(clock=clock, database_url=proxy.url(database), redis_url=redis_url)
        await service.call("PUT", PATH, session(clock, expires=expires))
        clock.advance(advance_s)
        await proxy.refuses()
        assert (await service.call("GET", PATH)).status == 503


async def test_a_deleted_session_is_not_brought_back_by_its_copy(
    start: Any, database: str, redis_url: str, clock: FakeClock
) -> None:
    async with TcpProxy.before(database) as proxy:
        service = await start(clock=clock, database_url=proxy.url(database), redis_url=redis_url)
        await service.call("PUT", PATH, session(clock))
        await service.call("DELETE", f"/v1/shops/{SHOP}")
        await proxy.refuses()
        assert (await service.call("GET", PATH)).status == 503
        assert (await service.call("GET", TOKEN)).status == 503


async def test_redis_is_told_later_of_a_deletion_that_it_missed(
    start: Any, redis_url: str, clock: FakeClock
) -> None:
    async with TcpProxy.before(redis_url) as proxy:
        service = await start(clock=clock, redis_url=proxy.url(redis_url))
        await service.call("PUT", PATH, session(clock))
        assert held_in(redis_url)
        await proxy.refuses()
        assert (await service.call("DELETE", PATH)).status == 204
        assert held_in(redis_url)
        await proxy.passes()
        await eventually(lambda: not held_in(redis_url))


async def test_a_change_that_redis_missed_takes_the_old_copy_away(
    start: Any, redis_url: str, clock: FakeClock
) -> None:
    async with TcpProxy.before(redis_url) as proxy:
        service = await start(clock=clock, redis_url=proxy.url(redis_url))
        await service.call("PUT", PATH, session(clock))
        await proxy.refuses()
        assert (await service.call("PUT", PATH, session(clock, state="new"))).status == 200
        await proxy.passes()
        await eventually(lambda: not held_in(redis_url))


async def test_an_older_copy_never_takes_a_newer_ones_place(
    start: Any, redis_url: str, clock: FakeClock
) -> None:
    service = await start(clock=clock, redis_url=redis_url)
    copies = service.app[COPIES]
    await copies.keep([(ID, 7, "seven")])
    await copies.keep([(ID, 6, "six"), ("other", 1, "one")])
    assert (await copies.find(ID), await copies.find("other")) == ("seven", "one")


@pytest.mark.parametrize("lie", ["", "nonsense", "99:enc:v1:k1:AAAA", "\x80"])
async def test_a_redis_that_lies_is_not_believed(
    start: Any, database: str, redis_url: str, clock: FakeClock, lie: str
) -> None:
    async with TcpProxy.before(database) as proxy:
        service = await start(clock=clock, database_url=proxy.url(database), redis_url=redis_url)
        await service.call("PUT", PATH, session(clock))
        with redis.Redis.from_url(redis_url) as client:
            client.set(PREFIX + ID, lie.encode("latin-1"))
        clock.advance(PAST_MEMORY_S)
        assert (await service.call("GET", PATH)).body["accessToken"] == "shpat_of_the_day"
        with redis.Redis.from_url(redis_url) as client:
            client.set(PREFIX + ID, lie.encode("latin-1"))
        await proxy.refuses()
        clock.advance(PAST_MEMORY_S)
        assert (await service.call("GET", PATH)).status == 503


async def test_a_copy_of_another_session_is_not_taken_for_this_one(
    start: Any, database: str, redis_url: str, clock: FakeClock
) -> None:
    async with TcpProxy.before(database) as proxy:
        service = await start(clock=clock, database_url=proxy.url(database), redis_url=redis_url)
        await service.call("PUT", PATH, session(clock))
        await service.call("PUT", "/v1/sessions/b", session(clock, id="b", shop="b"))
        with redis.Redis.from_url(redis_url) as client:
            client.set(PREFIX + "b", client.get(PREFIX + ID))
        await proxy.refuses()
        clock.advance(PAST_MEMORY_S)
        assert (await service.call("GET", "/v1/sessions/b")).status == 503


async def test_a_dead_redis_is_nobodys_trouble(
    start: Any, redis_url: str, clock: FakeClock
) -> None:
    async with TcpProxy.before(redis_url) as proxy:
        service = await start(clock=clock, redis_url=proxy.url(redis_url))
        proxy.hangs()
        for state in ("a", "b", "c", "d"):
            assert (await service.call("PUT", PATH, session(clock, state=state))).status == 200
            clock.advance(PAST_MEMORY_S)
            read = await service.call("GET", PATH)
            assert (read.body["state"], "Degraded" in read.headers) == (state, False)
        await proxy.passes()


async def test_health_tells_how_sessions_are_read(
    start: Any, database: str, redis_url: str
) -> None:
    async with (
        TcpProxy.before(database) as records,
        TcpProxy.before(redis_url) as copies,
    ):
        service = await start(database_url=records.url(database), redis_url=copies.url(redis_url))

        async def road() -> tuple[str, str]:
            body = (await service.call("GET", "/healthz")).body
            return body["sessions"], body["status"]

        async def is_told(wanted: tuple[str, str]) -> None:
            async def told() -> bool:
                assert await road() == wanted
                return True

            await eventually(told, within_s=10)

        await is_told(("direct", "pass"))
        await records.refuses()
        await is_told(("cache", "warn"))
        await copies.refuses()
        await is_told(("shut", "warn"))
        await records.passes()
        await is_told(("direct", "warn"))


def held_in(redis_url: str) -> bool:
    """Is there a copy, not only the mark of a deletion?"""
    with redis.Redis.from_url(redis_url) as client:
        held = client.get(PREFIX + ID)
    return bool(held and held.partition(b":")[2])


async def test_a_redis_that_comes_and_goes_costs_no_error_and_brings_nothing_back(
    start: Any, redis_url: str, clock: FakeClock
) -> None:
    async with TcpProxy.before(redis_url) as proxy:
        service = await start(clock=clock, redis_url=proxy.url(redis_url))
        for turn in range(12):
            await (proxy.refuses() if turn % 2 else proxy.passes())
            given = session(clock, state=str(turn))
            assert (await service.call("PUT", PATH, given)).status == 200
            clock.advance(PAST_MEMORY_S)
            read = await service.call("GET", PATH)
            assert (read.status, read.body["state"]) == (200, str(turn))
            assert "Degraded" not in read.headers
            if turn % 3 == 2:
                assert (await service.call("DELETE", PATH)).status == 204
                assert (await service.call("GET", PATH)).status == 404
