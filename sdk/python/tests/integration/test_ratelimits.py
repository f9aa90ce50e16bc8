"""Every call of the client's rate limits, before a real ratelimit-service."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from mainstay import errors
from mainstay.client import Client
from mainstay.pace import Pace
from testkit.faults import TcpProxy

SHOP = "a.myshopify.com"


@pytest_asyncio.fixture
async def client(limit_service: Any) -> AsyncIterator[Client]:
    async with limit_service.client(attempts=1) as made:
        yield made


async def left(client: Client, policy: str, **subject: Any) -> int:
    return (await client.peek(policy, **(subject or {"shop": SHOP}))).limits[0].remaining


async def test_a_denial_is_an_answer_and_enforce_raises_it(client: Client) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=2)
    assert (await client.check("slow", shop=SHOP)).limits[0].remaining == 1
    decided = await client.check_batch(
        [{"policies": ["slow"], "subject": {"shop": SHOP}} for _ in range(2)]
    )
    assert [one.allowed for one in decided] == [True, False]
    with pytest.raises(errors.Limited) as caught:
        await client.enforce(["slow"], shop=SHOP)
    assert 3_000 < (caught.value.retry_after_s or 0) <= 3_600
    assert (decided[1].backend, decided[1].degraded) == ("postgres", False)


async def test_what_was_taken_is_given_back_once(client: Client) -> None:
    await client.put_policy("slow", key="sender", rate="1/h", burst=10)
    slot = await client.reserve("slow", sender="+30690", cost=6)
    assert slot.token is not None
    assert await client.refund(slot.token, 4) == 4
    assert await client.refund(slot.token) == 0
    assert await left(client, "slow", sender="+30690") == 8


async def test_a_penalty_is_taken_and_forgotten_by_a_reset(client: Client) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=10)
    await client.penalize("slow", 7, reason="abuse", shop=SHOP)
    both = await client.peek(["slow", "api"], shop=SHOP)
    assert [(one.policy, one.remaining) for one in both.limits] == [("slow", 3), ("api", 100)]
    await client.reset("slow", reason="a mistake", shop=SHOP)
    assert await left(client, "slow") == 10


async def test_a_lease_is_spent_here_and_the_rest_given_back(client: Client) -> None:
    await client.put_policy("slow", key="shop", rate="1/h", burst=10)
    lease = await client.lease_tokens("slow", 6, ttl_s=30, shop=SHOP)
    assert (lease.granted, await left(client, "slow")) == (6, 4)
    await client.return_tokens(lease, 5)
    await client.return_tokens(lease, 5)
    assert await left(client, "slow") == 9


async def test_a_permit_is_held_renewed_and_given_back(client: Client) -> None:
    await client.put_policy("exports", key="shop", algorithm="concurrency", limit=1, lease_s=30)
    async with client.permit("exports", shop=SHOP, ttl_s=0.4) as permit:
        assert permit.allowed
        # Longer than it lasts: what is shown is that time alone does not end it.
        await asyncio.sleep(0.7)
        with pytest.raises(errors.Limited):
            async with client.permit("exports", shop=SHOP):
                raise AssertionError
    async with client.permit("exports", shop=SHOP):
        pass


async def test_a_permit_that_cannot_be_renewed_stops_its_block(limit_service: Any) -> None:
    async with TcpProxy.before(limit_service.url) as proxy:
        url = proxy.url(limit_service.url)
        async with limit_service.client(url, attempts=1) as client:
            policy = {"key": "shop", "algorithm": "concurrency", "limit": 1, "lease_s": 30}
            await client.put_policy("exports", **policy)
            with pytest.raises(errors.Unavailable) as caught:
                async with client.permit("exports", shop=SHOP, ttl_s=0.3):
                    await proxy.refuses()
                    await asyncio.Event().wait()
            assert caught.value.code == "permit_lost"
            task = asyncio.current_task()
            assert task is not None
            assert not task.cancelling()


async def test_a_pace_learns_and_gives_back(client: Client) -> None:
    pace = Pace(client, "shopify-gql", shop=SHOP)
    status = {"maximumAvailable": 2000, "currentlyAvailable": 1000, "restoreRate": 100}
    cost = {"requestedQueryCost": 500, "actualQueryCost": 20, "throttleStatus": status}
    async with pace.call(cost=500) as call:
        assert await left(client, "shopify-gql") <= 1510
        call.told({"extensions": {"cost": cost}})
    assert 990 <= await left(client, "shopify-gql") <= 1100


async def test_policies_are_set_and_nobodys_change_is_lost(client: Client) -> None:
    made = await client.put_policy("slow", key="shop", rate="1/h", burst=3)
    assert (made.algorithm, made.rate, made.burst) == ("gcra", "1/h", 3)
    changed = await client.put_policy(
        "slow", if_version=made.version, key="shop", rate="2/h", burst=3
    )
    with pytest.raises(errors.Outdated):
        await client.put_policy("slow", if_version=made.version, key="shop", rate="3/h", burst=3)
    assert (await client.get_policy("slow")).version == changed.version
    with pytest.raises(errors.Invalid):
        await client.put_policy("slow", key="shop", rate="0/h", burst=3)
    assert "slow" in [one.id for one in (await client.list_policies(limit=200)).items]
    simulated = await client.simulate_policy("slow", minutes=5, burst=1)
    assert simulated.minutes == 5
    await client.delete_policy("slow")
    await client.delete_policy("slow")
    with pytest.raises(errors.NotFound):
        await client.get_policy("slow")


async def test_what_differs_for_some(client: Client) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    made = await client.put_override(SHOP, "api", burst=7, reason="launch", expires_at=until)
    assert (made.shop, made.policy, made.change["burst"]) == (SHOP, "api", 7)
    assert (await client.get_override(SHOP, "api")).reason == "launch"
    assert [one.shop for one in (await client.list_overrides()).items] == [SHOP]
    assert (await client.list_overrides(shop="other")).items == []
    await client.delete_override(SHOP, "api")
    await client.delete_override(SHOP, "api")
    await client.put_plan("plus", {"api": {"rate": "50/s", "burst": 500}})
    assert (await client.get_plan("plus")).policies["api"]["burst"] == 500
    await client.put_shop_plan(SHOP, "plus")
    assert (await client.get_shop_plan(SHOP)).plan == "plus"
    assert "plus" in [one.id for one in (await client.list_plans()).items]
    await client.delete_shop_plan(SHOP)
    await client.delete_plan("plus")


async def test_the_lists(client: Client) -> None:
    item = {"subject": "192.0.2.0/24", "reason": "a test"}
    made = await client.put_limit_list("deny", [item])
    assert (made.kind, made.items[0]["subject"]) == ("deny", "192.0.2.0/24")
    read = await client.get_limit_list("deny")
    with pytest.raises(errors.Outdated):
        await client.put_limit_list("deny", [], if_version=read.version + 1)
    await client.put_limit_list("deny", [], if_version=read.version)


async def test_who_asks_most(client: Client) -> None:
    await client.check("api", shop=SHOP)
    usage = await client.limit_usage(SHOP, minutes=5)
    assert (usage.shop, usage.minutes) == (SHOP, 5)
    assert isinstance(await client.top_limited(by="asked"), list)
