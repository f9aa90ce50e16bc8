"""The Limiter before a real ratelimit-service that is slow, away, and back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from mainstay import errors, limiter
from mainstay.buckets import Rate
from mainstay.client import Client
from mainstay.limiter import Limiter
from testkit.faults import TcpProxy
from testkit.signals import eventually

SHOP = "a.myshopify.com"
BUDGET_S = 1.5


@pytest.fixture(autouse=True)
def _soon_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(limiter, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(limiter, "LONGEST_PAUSE_S", 0.05)
    return


@pytest_asyncio.fixture
async def proxy(limit_service: Any) -> AsyncIterator[TcpProxy]:
    async with TcpProxy.before(limit_service.url) as made:
        yield made


@pytest_asyncio.fixture
async def client(limit_service: Any, proxy: TcpProxy) -> AsyncIterator[Client]:
    async with limit_service.client(proxy.url(limit_service.url)) as made:
        yield made


@pytest_asyncio.fixture
async def limits(client: Client) -> AsyncIterator[Limiter]:
    async with Limiter(client, budget_s=BUDGET_S) as made:
        yield made


async def allowed(limits: Limiter, times: int, policy: str = "slow", **subject: Any) -> int:
    asked = [limits.check(policy, **(subject or {"shop": SHOP})) for _ in range(times)]
    return sum(one.allowed for one in await asyncio.gather(*asked))


async def test_checks_that_come_together_travel_together(
    client: Client, limits: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=30)
    sizes: list[int] = []
    ask = client.check_batch

    async def counted(items: Any, **how: Any) -> Any:
        sizes.append(len(items))
        return await ask(items, **how)

    monkeypatch.setattr(client, "check_batch", counted)
    assert await allowed(limits, 50) == 30
    assert sum(sizes) == 50
    assert len(sizes) <= 2


async def test_a_wrong_question_is_told_to_who_asked_it_alone(
    client: Client, limits: Limiter
) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=3)
    good, unknown, bad = await asyncio.gather(
        limits.check("slow", shop=SHOP),
        limits.check("nope", shop=SHOP),
        limits.check("slow", user="k"),
        return_exceptions=True,
    )
    assert not isinstance(good, BaseException)
    assert (good.allowed, good.limits[0].remaining, good.degraded) == (True, 2, False)
    assert isinstance(unknown, errors.Invalid | errors.NotFound)
    assert isinstance(bad, errors.Invalid)
    assert bad.errors[0].pointer == "/subject/shop"
    with pytest.raises((errors.Invalid, errors.NotFound)):
        await limits.check("nope", shop=SHOP)
    assert not limits.is_away


async def test_a_denial_is_asked_for_once_while_it_holds(
    client: Client, limits: Limiter, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=1)
    await limits.check("slow", shop=SHOP)
    denied = await limits.check("slow", shop=SHOP)
    assert not denied.allowed
    assert denied.retry_after_ms is not None
    await proxy.refuses()
    again = await limits.check("slow", shop=SHOP)
    assert (again.allowed, again.degraded, again.backend) == (False, False, "postgres")
    assert 0 < (again.retry_after_ms or 0) <= denied.retry_after_ms
    monkeypatch.setattr(limits, "_clock", lambda: limiter.time.monotonic() + 1.1)
    assert (await limits.check("slow", shop=SHOP)).degraded


@pytest.mark.parametrize("fault", ["refuses", "hangs"])
async def test_while_it_is_away_what_was_left_is_what_is_left(
    client: Client, proxy: TcpProxy, fault: str
) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=10)
    async with Limiter(client, budget_s=BUDGET_S, replicas=2) as limits:
        await client.check("slow", shop=SHOP, cost=3)
        assert (await limits.check("slow", shop=SHOP)).limits[0].remaining == 6
        if fault == "hangs":
            proxy.hangs()
        else:
            await proxy.refuses()
        first = await limits.check("slow", shop=SHOP)
        assert (first.allowed, first.backend, first.degraded) == (True, "local", True)
        assert limits.is_away
        assert await allowed(limits, 10) == 2
        assert await allowed(limits, 10, shop="never.seen") == 2
        refused = await limits.check("slow", shop=SHOP)
        assert refused.limits[0].violated
        assert refused.retry_after_ms


async def test_what_was_let_pass_is_told_when_it_is_back(
    client: Client, limits: Limiter, proxy: TcpProxy
) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=10)
    await limits.check("slow", shop=SHOP)
    await proxy.refuses()
    assert await allowed(limits, 4) == 4
    await proxy.passes()
    await eventually(lambda: not limits.is_away)
    decision = await limits.check("slow", shop=SHOP)
    assert (decision.degraded, decision.limits[0].remaining) == (False, 4)


async def test_nobody_waits_for_one_that_hangs_but_the_first(
    client: Client, limits: Limiter, proxy: TcpProxy
) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=10)
    await limits.check("slow", shop=SHOP)
    proxy.hangs()
    loop = asyncio.get_running_loop()
    await limits.check("slow", shop=SHOP)
    began = loop.time()
    assert await allowed(limits, 100) == 8
    assert loop.time() - began < BUDGET_S / 2


async def test_without_a_limiter_open_lets_pass_and_closed_says_so(
    client: Client, proxy: TcpProxy
) -> None:
    await proxy.refuses()
    rates = {"slow": Rate(per_s=0.001, burst=1)}
    async with (
        Limiter(client, on_failure="open", rates=rates) as is_open,
        Limiter(client, on_failure="closed", rates=rates) as closed,
        Limiter(client, rates=rates) as local,
    ):
        assert await allowed(is_open, 5) == 5
        assert await allowed(local, 5) == 1
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await closed.check("slow", shop=SHOP)


async def test_all_addresses_of_a_network_are_one_when_it_is_away(
    client: Client, proxy: TcpProxy
) -> None:
    await proxy.refuses()
    async with Limiter(client, rates={"ip": Rate(per_s=0.001, burst=4)}) as limits:
        passes = [await limits.check("ip", ip=f"2001:db8::{n}") for n in range(1, 9)]
        assert sum(one.allowed for one in passes) == 2


async def test_a_key_that_is_refused_is_a_limiter_that_is_away(limit_service: Any) -> None:
    async with Client(limit_service.url, "no key", attempts=1) as client, Limiter(client) as limits:
        decision = await limits.check("api", shop=SHOP)
        assert (decision.allowed, decision.degraded) == (True, True)
