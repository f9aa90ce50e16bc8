"""What a caller is told: decisions, refusals, and what is wrong with a question."""

import itertools
from typing import Any

import pytest

SHOP = {"shop": "A-shop.myshopify.com"}
SLOW = {"key": "shop", "rate": "1/h", "burst": 3}


async def test_a_burst_passes_and_what_follows_is_denied_with_the_time_to_wait(
    service: Any,
) -> None:
    await service.put("slow", **SLOW)
    left = [(await service.check("slow", subject=SHOP))["limits"][0]["remaining"] for _ in "123"]
    assert left == [2, 1, 0]
    denied = await service.check("slow", subject={"shop": "a-shop.myshopify.com"})
    assert not denied["allowed"]
    assert 3_500_000 < denied["retry_after_ms"] <= 3_600_000
    assert denied["wait_ms"] == denied["retry_after_ms"]
    [limit] = denied["limits"]
    assert limit | {"reset_ms": 0} == {
        "policy": "slow", "limit": 3, "remaining": 0, "reset_ms": 0, "window_s": 10_800,
        "violated": True, "shadow": False,
    }  # fmt: skip
    assert (await service.check("slow", subject={"shop": "other.example"}))["allowed"]


async def test_an_answer_says_who_decided_and_absent_redis_is_no_degradation(
    service: Any,
) -> None:
    reply = await service.call("POST", "/check", {"policies": ["api"], "subject": SHOP})
    assert reply.headers["Mainstay-Backend"] == "postgres"
    assert "Degraded" not in reply.headers
    assert (reply.body["backend"], reply.body["degraded"]) == ("postgres", False)


async def test_two_policies_pass_together_or_take_nothing(service: Any) -> None:
    await service.put("wide", key="shop", rate="1/h", burst=10)
    await service.put("narrow", key="shop", rate="1/h", burst=1)
    assert (await service.check("wide", "narrow", subject=SHOP))["allowed"]
    denied = await service.check("wide", "narrow", subject=SHOP)
    assert not denied["allowed"]
    assert [each["violated"] for each in denied["limits"]] == [False, True]
    [wide] = (await service.check("wide", subject=SHOP, mode="peek"))["limits"]
    assert wide["remaining"] == 9


async def test_a_peek_takes_nothing(service: Any) -> None:
    await service.put("slow", **SLOW)
    for _ in range(5):
        seen = await service.check("slow", subject=SHOP, mode="peek")
        assert seen["limits"][0]["remaining"] == 3


async def test_a_cost_beyond_the_burst_is_unsatisfiable_and_free(service: Any) -> None:
    await service.put("slow", **SLOW)
    denied = await service.check("slow", subject=SHOP, cost=4)
    assert (denied["allowed"], denied["unsatisfiable"]) == (False, True)
    assert denied["retry_after_ms"] is None
    assert denied["limits"][0]["remaining"] == 3


async def test_a_shadow_limit_is_judged_and_never_refuses(service: Any) -> None:
    await service.put("next", key="shop", rate="1/h", burst=1, shadow=True)
    await service.check("next", subject=SHOP)
    second = await service.check("next", subject=SHOP)
    assert second["allowed"]
    assert second["limits"][0]["violated"]


async def test_a_floor_keeps_the_end_of_the_bucket_for_others(service: Any) -> None:
    await service.put("mixed", key="shop", rate="1/h", burst=10, floors={"batch": 0.3})
    took = [await service.check("mixed", subject=SHOP, priority="batch") for _ in range(8)]
    assert [each["allowed"] for each in took] == [True] * 7 + [False]
    assert (await service.check("mixed", subject=SHOP, priority="interactive"))["allowed"]


async def test_who_shares_a_bucket(service: Any) -> None:
    async def left(policy: str, subject: Any) -> int:
        [limit] = (await service.check(policy, subject=subject))["limits"]
        return int(limit["remaining"])

    for kind in ("shop_or_ip", "ip", "user"):
        await service.put(kind.replace("_", "-"), key=kind, rate="1/h", burst=9)
    assert await left("shop-or-ip", {"shop": "a"}) == 8
    assert await left("shop-or-ip", {"shop": "A", "ip": "192.0.2.9"}) == 7
    assert await left("shop-or-ip", {"shop": "b"}) == 8
    unverified = {"shop": "a", "shop_verified": False, "ip": "192.0.2.1"}
    assert await left("shop-or-ip", unverified) == 8
    assert await left("shop-or-ip", {"ip": "::ffff:192.0.2.1"}) == 7
    assert await left("ip", {"ip": "192.0.2.1"}) == 8
    assert await left("ip", {"ip": "2001:db8:0:1::1"}) == 8
    assert await left("ip", {"ip": "2001:db8:0:1:ffff::2"}) == 7
    assert await left("ip", {"ip": "2001:db8:0:2::1"}) == 8
    assert await left("user", {"user": "k1", "shop": "a"}) == 8
    assert await left("user", {"user": "k1"}) == 7


async def test_a_reservation_hands_out_distinct_slots(service: Any) -> None:
    await service.put("pace", key="sender", rate="1/m", burst=1)
    asked = {"policies": ["pace"], "subject": {"sender": "+30690"}, "max_wait_ms": 600_000}
    slots = [(await service.call("POST", "/reserve", asked)).body for _ in range(13)]
    assert [slot["allowed"] for slot in slots] == [True] * 11 + [False] * 2
    waits = [slot["wait_ms"] for slot in slots[:11]]
    assert waits[0] == 0
    assert all(50_000 < later - sooner <= 60_000 for sooner, later in itertools.pairwise(waits))
    assert len({slot["token"] for slot in slots[:11]}) == 11
    denied = slots[-1]
    assert denied["token"] is None
    assert 50_000 < denied["wait_ms"] == denied["retry_after_ms"] <= 60_000


async def test_a_batch_is_decided_in_order(service: Any) -> None:
    await service.put("slow", **SLOW)
    items = [{"policies": ["slow"], "subject": SHOP, "cost": cost} for cost in (2, 2, 1)]
    reply = await service.call("POST", "/check:batch", {"items": items})
    assert [each["allowed"] for each in reply.body["results"]] == [True, False, True]


async def test_the_largest_batch_is_answered_in_order(service: Any) -> None:
    await service.put("wide", key="user", rate="1/h", burst=1000)
    policies = ["wide", "api-ip"]
    subject = {"user": "k", "ip": "192.0.2.1"}
    items = [{"policies": policies, "subject": subject, "cost": 0} for _ in range(999)]
    items.insert(500, {"policies": ["wide"], "subject": subject, "cost": 7})
    reply = await service.call("POST", "/check:batch", {"items": items})
    left = [each["limits"][0]["remaining"] for each in reply.body["results"]]
    assert left == [1000] * 500 + [993] * 500


async def test_an_atomic_batch_passes_as_a_whole_or_not_at_all(service: Any) -> None:
    await service.put("slow", **SLOW)
    items = [{"policies": ["slow"], "subject": SHOP, "cost": 2} for _ in range(2)]
    reply = await service.call("POST", "/check:batch", {"items": items, "atomic": True})
    assert [each["allowed"] for each in reply.body["results"]] == [False, False]
    [limit] = (await service.check("slow", subject=SHOP, mode="peek"))["limits"]
    assert limit["remaining"] == 3
    reply = await service.call("POST", "/check:batch", {"items": items[:1], "atomic": True})
    assert reply.body["results"][0]["limits"][0]["remaining"] == 1


async def test_enforce_answers_204_or_a_429_that_may_be_passed_on(service: Any) -> None:
    await service.put("one", key="shop", rate="1/h", burst=1)
    asked = {"policies": ["one"], "subject": SHOP}
    passed = await service.call("POST", "/enforce", asked)
    assert passed.status == 204
    assert passed.headers["RateLimit-Policy"] == '"one";q=1;w=3600'
    assert passed.headers["RateLimit"] == '"one";r=0;t=3600'
    refused = await service.call("POST", "/enforce", asked)
    assert refused.status == 429
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert 3600 <= int(refused.headers["Retry-After"]) <= 3961
    assert refused.headers["RateLimit"].startswith('"one";r=0;t=')
    assert refused.headers["Mainstay-Backend"] == "postgres"
    assert refused.body["code"] == "rate_limited"
    assert refused.body["errors"] == [{"pointer": "/policies/0", "detail": "over one"}]


async def test_an_unknown_policy_is_404_by_its_name(service: Any) -> None:
    reply = await service.call("POST", "/check", {"policies": ["api", "nope"], "subject": SHOP})
    assert (reply.status, reply.body["code"]) == (404, "unknown_policy")
    assert reply.body["errors"][0]["pointer"] == "/policies/1"
    assert "nope" in reply.body["detail"]


async def test_in_a_batch_every_wrong_item_is_named_and_nothing_is_taken(service: Any) -> None:
    await service.put("slow", **SLOW)
    items: list[Any] = [
        {"policies": ["slow"], "subject": SHOP},
        {"policies": ["slow", "nope"], "subject": SHOP},
        {"policies": ["slow"], "subject": {}},
        {"policies": ["shopify-gql"], "subject": SHOP, "cost": 1001},
    ]
    reply = await service.call("POST", "/check:batch", {"items": items})
    assert reply.status == 422
    assert [each["pointer"] for each in reply.body["errors"]] == [
        "/items/1/policies/1", "/items/2/subject/shop", "/items/3/cost",
    ]  # fmt: skip
    [limit] = (await service.check("slow", subject=SHOP, mode="peek"))["limits"]
    assert limit["remaining"] == 3


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"policies": ["api"], "subject": {}}, "/subject/ip"),
        ({"policies": ["api"], "subject": {"ip": "300.1.1.1"}}, "/subject/ip"),
        ({"policies": ["sms-sender"], "subject": {"shop": "a"}}, "/subject/sender"),
        ({"policies": ["api"], "subject": {"shop": "a"}, "cost": -1}, "/cost"),
        ({"policies": ["api"], "subject": {"shop": "a"}, "cost": 1.5}, "/cost"),
        ({"policies": [], "subject": {"shop": "a"}}, "/policies"),
        ({"policies": ["api", "api"], "subject": {"shop": "a"}}, ""),
        ({"policies": ["api"], "subject": {"shop": "a", "vip": True}}, "/subject/vip"),
    ],
)
async def test_a_wrong_question_is_422_at_its_place(service: Any, asked: Any, pointer: str) -> None:
    reply = await service.call("POST", "/check", asked)
    assert reply.status == 422
    assert [each["pointer"] for each in reply.body["errors"]] == [pointer]


async def test_a_key_of_one_shop_spends_nobody_elses_limits(service: Any) -> None:
    asked = {"policies": ["api"], "subject": {"shop": "other"}}
    reply = await service.call("POST", "/check", asked, shop="mine")
    assert (reply.status, reply.body["code"]) == (403, "other_shop")
    asked["subject"] = {"shop": "MINE"}
    assert (await service.call("POST", "/check", asked, shop="mine")).status == 200
