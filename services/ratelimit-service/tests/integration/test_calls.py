"""What may be done beside asking: giving back, penalties, observations, leases, permits."""

import asyncio
import uuid
from typing import Any

import pytest

from testkit.signals import eventually

SHOP = {"shop": "a.myshopify.com"}
SLOW = {"key": "shop", "rate": "1/h", "burst": 100}
Service = Any
StartService = Any
BACKENDS = ("postgres", "redis")


@pytest.fixture(params=BACKENDS)
async def limiter(request: pytest.FixtureRequest, start: StartService, redis_url: str) -> Service:
    """By each decider, with a policy that does not refill while a test runs."""
    settings = {"redis_url": redis_url} if request.param == "redis" else {}
    service = await start(**settings)
    await service.put("slow", **SLOW)
    if request.param == "redis":

        async def is_redis() -> bool:
            return bool(await service.road() == "redis")

        await eventually(is_redis, within_s=20)
    return service


async def remaining(service: Service, policy: str = "slow") -> int:
    reply = await service.call("GET", f"/peek?policy={policy}&shop={SHOP['shop']}")
    assert reply.status == 200, reply.raw
    left: int = reply.body["limits"][0]["remaining"]
    return left


async def refund(service: Service, token: str, **asked: Any) -> int:
    reply = await service.call("POST", "/refund", {"token": token, **asked})
    assert reply.status == 200, reply.raw
    back: int = reply.body["refunded"]
    return back


async def test_a_charge_comes_back_once(limiter: Service) -> None:
    decision = await limiter.check("slow", subject=SHOP, cost=40)
    assert await remaining(limiter) == 60
    assert await refund(limiter, decision["token"]) == 40
    assert await remaining(limiter) == 100
    await limiter.check("slow", subject=SHOP, cost=40)
    assert await refund(limiter, decision["token"]) == 0
    assert await remaining(limiter) == 60


async def test_twenty_refunds_at_once_are_one(limiter: Service) -> None:
    await limiter.check("slow", subject=SHOP, cost=50)
    decision = await limiter.check("slow", subject=SHOP, cost=10)
    back = await asyncio.gather(*[refund(limiter, decision["token"]) for _ in range(20)])
    assert sorted(back)[-2:] == [0, 10]
    assert await remaining(limiter) == 50


async def test_a_part_of_a_charge_uses_the_token_up(limiter: Service) -> None:
    decision = await limiter.check("slow", subject=SHOP, cost=40)
    assert await refund(limiter, decision["token"], cost=10) == 10
    assert await refund(limiter, decision["token"]) == 0
    assert await remaining(limiter) == 70


async def test_what_has_drained_does_not_come_back(limiter: Service) -> None:
    """Else the tokens of whoever came later would."""
    await limiter.put("quick", key="shop", rate="1000/s", burst=100)
    decision = await limiter.check("quick", subject=SHOP, cost=5)

    async def has_drained() -> bool:
        return await remaining(limiter, "quick") == 100

    await eventually(has_drained)
    await limiter.put("quick", key="shop", rate="1/h", burst=100)
    await limiter.check("quick", subject=SHOP, cost=50)
    assert await refund(limiter, decision["token"]) == 0
    assert await remaining(limiter, "quick") == 50


async def test_a_denial_and_a_peek_have_nothing_to_give_back(limiter: Service) -> None:
    await limiter.check("slow", subject=SHOP, cost=100)
    assert (await limiter.check("slow", subject=SHOP, cost=1))["token"] is None
    assert (await limiter.check("slow", subject=SHOP, cost=1, mode="peek"))["token"] is None


@pytest.mark.parametrize("token", ["", "x", "a" * 80, "ÿ", "====", "AAAA" * 20])
async def test_a_token_of_nobody_is_refused(service: Service, token: str) -> None:
    reply = await service.call("POST", "/refund", {"token": token})
    assert reply.status == 422
    assert reply.body["errors"][0]["pointer"] == "/token"


async def test_a_refund_opens_what_was_denied_a_moment_ago(limiter: Service) -> None:
    decision = await limiter.check("slow", subject=SHOP, cost=100)
    assert not (await limiter.check("slow", subject=SHOP))["allowed"]
    await refund(limiter, decision["token"])
    assert (await limiter.check("slow", subject=SHOP))["allowed"]


async def test_a_refund_of_a_quota_counts_in_its_window(limiter: Service) -> None:
    await limiter.put("daily", key="shop", algorithm="fixed", limit="100/d")
    decision = await limiter.check("daily", subject=SHOP, cost=30)
    assert await refund(limiter, decision["token"]) == 30
    assert await remaining(limiter, "daily") == 100


async def test_every_limit_of_a_check_gets_its_charge_back(limiter: Service) -> None:
    await limiter.put("other", key="shop", rate="1/h", burst=10)
    decision = await limiter.check("slow", "other", subject=SHOP, cost=4)
    assert await refund(limiter, decision["token"]) == 4
    assert await remaining(limiter) == 100
    assert await remaining(limiter, "other") == 10


async def test_a_penalty_takes_what_does_not_fit_and_never_lowers(limiter: Service) -> None:
    await limiter.check("slow", subject=SHOP, cost=95)
    asked = {"subject": SHOP, "policy": "slow", "cost": 50}
    reply = await limiter.call("POST", "/penalize", asked)
    assert reply.body["limits"][0]["remaining"] == 0
    before = reply.body["limits"][0]["reset_ms"]
    for cost in (1_000_000, 1):
        reply = await limiter.call("POST", "/penalize", {**asked, "cost": cost})
    assert before - 1000 <= reply.body["limits"][0]["reset_ms"] <= before + 601_000


async def test_an_observation_only_lowers_what_is_left(limiter: Service) -> None:
    told = {"policy": "slow", "shop": SHOP["shop"], "available": 30, "maximum": 100}
    reply = await limiter.call("POST", "/observe", told)
    assert reply.body["limits"][0]["remaining"] == 30
    assert reply.headers["Mainstay-Backend"] == reply.body["backend"]
    await limiter.call("POST", "/observe", {**told, "available": 90})
    assert await remaining(limiter) == 30


async def test_nothing_passes_before_an_upstream_wants_to_be_asked_again(limiter: Service) -> None:
    await limiter.put("quick", key="shop", rate="1000/s", burst=100)
    told = {"policy": "quick", "shop": SHOP["shop"], "retry_after_ms": 60_000}
    await limiter.call("POST", "/observe", told)
    decision = await limiter.check("quick", subject=SHOP)
    assert not decision["allowed"]
    assert 50_000 < decision["retry_after_ms"] <= 60_000


async def test_a_reset_forgets_and_opens_at_once(limiter: Service) -> None:
    await limiter.check("slow", subject=SHOP, cost=100)
    assert not (await limiter.check("slow", subject=SHOP))["allowed"]
    reply = await limiter.call("POST", "/reset", {"subject": SHOP, "policy": "slow"})
    assert reply.status == 200, reply.raw
    assert await remaining(limiter) == 100
    assert (await limiter.check("slow", subject=SHOP))["allowed"]


async def test_a_lease_takes_what_there_is_and_gives_the_rest_back_once(limiter: Service) -> None:
    asked = {"policy": "slow", "subject": SHOP, "want": 70, "ttl_ms": 5000}
    first = (await limiter.call("POST", "/leases", asked)).body
    second = (await limiter.call("POST", "/leases", asked)).body
    third = (await limiter.call("POST", "/leases", asked)).body
    assert [each["granted"] for each in (first, second, third)] == [70, 30, 0]
    assert third["id"] is None
    for back in (20, 0):
        reply = await limiter.call("DELETE", f"/leases/{first['id']}?unspent=20")
        assert reply.body == {"refunded": back}
    assert await remaining(limiter) == 20


async def test_a_proxy_asks_without_a_body(limiter: Service) -> None:
    path = f"/enforce?policy=slow&shop={SHOP['shop']}"
    reply = await limiter.call("GET", path)
    assert reply.status == 204
    assert reply.headers["RateLimit"].startswith('"slow";r=99;t=')
    await limiter.check("slow", subject=SHOP, cost=99)
    assert (await limiter.call("GET", path)).status == 429
    reply = await limiter.call("GET", f"{path}&deny_status=403")
    assert reply.status == 403
    assert int(reply.headers["Retry-After"]) > 3000
    for wrong in ("/enforce?policy=", "/enforce?policy=slow,slow&shop=a", "/peek?shop=a"):
        assert (await limiter.call("GET", wrong)).status == 422


# Permits: Postgres alone gives them.

PLACES = {"key": "shop", "algorithm": "concurrency", "limit": 2, "lease_s": 30}


async def permit(service: Service, **asked: Any) -> Any:
    reply = await service.call("POST", "/permits", {"policy": "places", "subject": SHOP, **asked})
    assert reply.status == 200, reply.raw
    return reply.body


async def test_of_forty_at_once_as_many_run_as_there_are_places(start: StartService) -> None:
    replicas = [await start() for _ in range(2)]
    await replicas[0].put("places", **PLACES)

    async def knows() -> bool:
        asked = {"policy": "places", "subject": {"shop": "other"}}
        return bool((await replicas[1].call("POST", "/permits", asked)).status == 200)

    await eventually(knows, within_s=10)
    taken = await asyncio.gather(*[permit(replicas[n % 2]) for n in range(40)])
    given = [each for each in taken if each["allowed"]]
    assert len(given) == 2
    refused = next(each for each in taken if not each["allowed"] and each["retry_after_ms"])
    assert 0 < refused["retry_after_ms"] <= 30_000
    for _ in range(2):
        reply = await replicas[0].call("DELETE", f"/permits/{given[0]['id']}")
        assert reply.status == 204
    assert (await permit(replicas[1]))["allowed"]
    assert not (await permit(replicas[0]))["allowed"]


async def test_a_permit_under_an_id_of_the_callers_is_one_permit(service: Service) -> None:
    await service.put("places", **PLACES)
    identifier = str(uuid.uuid4())
    for _ in range(3):
        again = await permit(service, id=identifier)
        assert (again["allowed"], again["in_use"]) == (True, 1)
    asked = {"policy": "places", "subject": {"shop": "b.myshopify.com"}, "id": identifier}
    assert (await service.call("POST", "/permits", asked)).status == 409


async def test_a_permit_past_its_time_frees_its_place_and_cannot_be_renewed(
    service: Service,
) -> None:
    await service.put("places", **PLACES)
    short = await permit(service, ttl_ms=100, weight=2)

    async def is_free() -> bool:
        return bool((await permit(service, id="0197f3a0-0000-7000-8000-000000000001"))["allowed"])

    await eventually(is_free)
    reply = await service.call("PUT", f"/permits/{short['id']}", {"ttl_ms": 5000})
    assert (reply.status, reply.body["code"]) == (404, "unknown_permit")
    reply = await service.call(
        "PUT", "/permits/0197f3a0-0000-7000-8000-000000000001", {"ttl_ms": 60_000}
    )
    assert (reply.body["in_use"], reply.body["limit"]) == (1, 2)


async def test_what_no_permit_can_be_is_told_of(service: Service) -> None:
    await service.put("places", **PLACES)
    asked = {"policy": "places", "subject": SHOP}
    for wrong, status, pointer in (
        ({"policy": "api"}, 422, "/policy"),
        ({"weight": 3}, 422, "/weight"),
        ({"ttl_ms": 1}, 422, "/ttl_ms"),
        ({"policy": "nothing"}, 404, None),
    ):
        reply = await service.call("POST", "/permits", {**asked, **wrong})
        assert reply.status == status, reply.raw
        if pointer is not None:
            assert reply.body["errors"][0]["pointer"] == pointer
    assert (await service.call("PUT", "/permits/none", {"ttl_ms": 500})).status == 404
