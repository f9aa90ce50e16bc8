"""What may be kept, for whom, for how long."""

import asyncio

import pytest

from chassis.kernel import errors
from gateway.cache.responses import MemoryShelf
from gateway.core import caching, keys
from gateway.core.ports import Kept
from testkit.clock import FakeClock

KEPT = Kept(status=200, headers=(), body=b"x", stored_at=0.0)


@pytest.mark.parametrize(
    ("path", "said", "age_s"),
    [
        ("/v1/ratelimits/policies", "max-age=10", 10),
        ("/v1/ratelimits/policies", "Max-Age=10, private", 10),
        ("/v1/ratelimits/policies", "max-age=9999", 300),
        ("/v1/ratelimits/policies", "no-cache, max-age=10", 0),
        ("/v1/ratelimits/policies", "max-age=-5", 0),
        ("/v1/ratelimits/policies", "", 0),
        ("/v1/jobs/1", "max-age=10", 0),
        ("/v1/shops/s/token", "max-age=10", 0),
    ],
)
def test_the_caller_says_how_old_an_answer_may_be(path: str, said: str, age_s: int) -> None:
    assert caching.max_age_s(path, said) == age_s


def test_callers_who_see_different_things_do_not_share() -> None:
    one = keys.Identity("a", "s1", frozenset({"x"}))
    assert caching.name_of(one, "/p") == caching.name_of(
        keys.Identity("b", "s1", frozenset({"x"})), "/p"
    )
    for other in (
        keys.Identity("a", "s2", frozenset({"x"})),
        keys.Identity("a", "s1", frozenset()),
    ):
        assert caching.name_of(one, "/p") != caching.name_of(other, "/p")


async def test_many_at_once_are_one_question(clock: FakeClock) -> None:
    cached = caching.Cached(
        shelves=[MemoryShelf(10_000)], clock=clock, counted=lambda _backend, _result: None
    )
    asked = 0

    async def fetch() -> Kept:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return KEPT

    found = await asyncio.gather(*(cached("n", max_age_s=5, fetch=fetch) for _ in range(9)))
    assert asked == 1
    assert {each.kept.body for each in found} == {b"x"}
    clock.advance(4)
    assert (await cached("n", max_age_s=5, fetch=fetch)).age_s == 4
    clock.advance(1)
    assert (await cached("n", max_age_s=5, fetch=fetch)).age_s is None
    assert asked == 2


async def test_a_failure_is_everybodys_and_is_not_kept(clock: FakeClock) -> None:
    cached = caching.Cached(
        shelves=[MemoryShelf(10_000)], clock=clock, counted=lambda _backend, _result: None
    )

    async def fails() -> Kept:
        await asyncio.sleep(0)
        raise errors.Unavailable("away")

    async def works() -> Kept:
        return KEPT

    found = await asyncio.gather(
        *(cached("n", max_age_s=5, fetch=fails) for _ in range(3)), return_exceptions=True
    )
    assert {type(each) for each in found} == {errors.Unavailable}
    assert (await cached("n", max_age_s=5, fetch=works)).kept.body == b"x"


async def test_memory_is_bounded() -> None:
    shelf = MemoryShelf(10_000)
    for n in range(100):
        body = bytes(1000)
        await shelf.put(str(n), Kept(status=200, headers=(), body=body, stored_at=0.0), ttl_s=9)
    there = [n for n in range(100) if await shelf.get(str(n)) is not None]
    assert there == list(range(94, 100))
