"""Redis answers in its budget or is missed; a dead one costs nothing; a late answer is nobody's."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import redis as driver

from chassis import redis
from chassis.kernel.breaker import State
from localstack.servers.redis import RedisServer
from testkit.faults import TcpProxy
from testkit.signals import eventually


class Watched(redis.Accelerator):
    """Remembers the changes of its circuit."""

    def __init__(self, url: str) -> None:
        self.changes: list[State] = []
        super().__init__(
            redis.connect(url), on_change=lambda _name, state: self.changes.append(state)
        )

    async def get(self, name: str) -> Any:
        return await self.call(lambda client: client.get(name), budget_s=0.2)

    async def set(self, name: str, value: str) -> None:
        await self.call(lambda client: client.set(name, value), budget_s=0.2)


@pytest_asyncio.fixture
async def proxy(redis_url: str) -> AsyncIterator[TcpProxy]:
    async with TcpProxy.before(redis_url) as made:
        yield made


@pytest_asyncio.fixture
async def cache(redis_url: str, proxy: TcpProxy) -> AsyncIterator[Watched]:
    made = Watched(proxy.url(redis_url))
    yield made
    await made.close()


async def missed(cache: Watched) -> float:
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(redis.Missed):
        await cache.get("name")
    return loop.time() - started


async def test_answers(cache: Watched) -> None:
    assert await cache.get("name") is None
    await cache.set("name", "value")
    assert await cache.get("name") == b"value"
    assert cache.presence() is redis.Presence.UP


async def test_absent_is_missed_and_no_failure() -> None:
    absent = redis.Accelerator(None)
    with pytest.raises(redis.Missed):
        await absent.call(lambda client: client.ping())
    assert absent.presence() is redis.Presence.ABSENT
    assert await absent.probe() is redis.Presence.ABSENT
    await absent.close()


async def test_the_budget_is_kept_by_a_silent_server_and_then_the_circuit_keeps_it(
    cache: Watched, proxy: TcpProxy
) -> None:
    await cache.set("name", "value")
    proxy.hangs()
    for _ in range(redis.POLICY.failures_to_open):
        assert 0.15 < await missed(cache) < 0.6
    assert cache.changes == [State.OPEN]
    assert cache.presence() is redis.Presence.DOWN
    for _ in range(20):
        assert await missed(cache) < 0.05


@pytest.mark.parametrize("trouble", ["resets", "refuses"])
async def test_a_dead_server_is_missed_at_once(
    cache: Watched, proxy: TcpProxy, trouble: str
) -> None:
    await cache.set("name", "value")
    if trouble == "refuses":
        await proxy.refuses()
    else:
        proxy.resets()
    for _ in range(redis.POLICY.failures_to_open):
        assert await missed(cache) < 0.25
    assert cache.presence() is redis.Presence.DOWN


async def test_it_comes_back_by_itself_and_in_steps(cache: Watched, proxy: TcpProxy) -> None:
    await cache.set("name", "value")
    await proxy.refuses()
    while cache.presence() is redis.Presence.UP:
        await missed(cache)
    await proxy.passes()

    async def up() -> bool:
        return await cache.probe() is redis.Presence.UP

    await eventually(up, within_s=10)
    assert cache.changes == [State.OPEN, State.HALF_OPEN, State.RECOVERING, State.CLOSED]
    assert await cache.get("name") == b"value"


async def test_an_answer_that_came_too_late_is_never_taken_for_another(
    cache: Watched, proxy: TcpProxy
) -> None:
    await cache.set("one", "1")
    await cache.set("two", "2")
    proxy.delays(0.15)
    for _ in range(2):
        with pytest.raises(redis.Missed):
            await cache.call(lambda client: client.get("one"), budget_s=0.05)
    await proxy.passes()
    for _ in range(4):
        assert await cache.get("two") == b"2"
        assert await cache.get("one") == b"1"


async def test_a_cancelled_call_says_nothing_about_redis_and_leaves_no_answer_behind(
    cache: Watched, proxy: TcpProxy
) -> None:
    await cache.set("one", "1")
    await cache.set("two", "2")
    proxy.delays(0.05)
    for _ in range(10):
        task = asyncio.create_task(cache.get("one"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await proxy.passes()
    assert cache.changes == []
    assert await cache.get("two") == b"2"


async def test_what_redis_refuses_is_missed_too(cache: Watched) -> None:
    await cache.set("name", "value")
    with pytest.raises(redis.Missed, match="ResponseError"):
        await cache.call(lambda client: client.lpush("name", "x"))


async def test_a_mistake_of_ours_is_not_hidden(cache: Watched) -> None:
    async def broken(_client: driver.asyncio.Redis) -> None:
        raise KeyError("a bug")

    for _ in range(redis.POLICY.failures_to_open + 1):
        with pytest.raises(KeyError):
            await cache.call(broken)
    assert cache.changes == []


async def test_through_a_freeze_and_a_kill(private_redis: RedisServer) -> None:
    cache = Watched(private_redis.url)
    await cache.set("name", "value")
    private_redis.pause()
    assert await missed(cache) < 0.6
    private_redis.resume()
    await eventually(private_redis.answers)
    assert await cache.get("name") == b"value"
    private_redis.kill()
    assert await missed(cache) < 0.3
    private_redis.start()
    assert await cache.get("name") == b"value"
    await cache.close()
