"""The pace of calls to an upstream: what is given back, what is passed on."""

import asyncio
from typing import Any

import pytest

from mainstay.handler import Reservation, Unavailable
from mainstay.pace import NotNow, Pace
from mainstay.testing import FakeContext

SHOP = "a.myshopify.com"
STATUS = {"maximumAvailable": 2000.0, "currentlyAvailable": 1910, "restoreRate": 100}


def pace(*slots: Reservation | Unavailable) -> tuple[FakeContext, Pace]:
    ctx = FakeContext(shop=SHOP, reservations=slots)
    return ctx, Pace(ctx, "shopify-gql", shop=SHOP)


def answer(actual: Any, **more: Any) -> dict[str, Any]:
    cost = {"requestedQueryCost": 92, "actualQueryCost": actual, "throttleStatus": STATUS}
    return {"data": {}, "extensions": {"cost": cost}, **more}


async def test_what_the_call_did_not_cost_comes_back_and_the_bucket_is_told() -> None:
    ctx, calls = pace()
    async with calls.call(cost=92) as call:
        call.told(answer(12))
    assert (ctx.reserved[0].cost, ctx.refunded) == (92, [80])
    (told,) = ctx.observed
    assert told["age_ms"] < 1000
    assert told | {"age_ms": 0} == {
        "policy": "shopify-gql", "shop": SHOP, "available": 1910.0, "maximum": 2000.0,
        "restore_rate": 100.0, "retry_after_ms": None, "age_ms": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "refunded"),
    [
        (answer(92), []),
        (answer(100), []),
        (answer(11.5), [80]),
        (answer(None), []),
        ({"data": {}}, []),
        ({"extensions": {"cost": "no"}, "errors": "no"}, []),
        (answer(None, errors=[{"extensions": {"code": "THROTTLED"}}]), [92]),
        ({"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]}, [92]),
    ],
)
async def test_what_comes_back(said: dict[str, Any], refunded: list[int]) -> None:
    ctx, calls = pace()
    async with calls.call(cost=92) as call:
        call.told(said)
    assert ctx.refunded == refunded


async def test_a_call_that_failed_may_have_been_made() -> None:
    ctx, calls = pace()
    with pytest.raises(ConnectionError):
        async with calls.call(cost=92):
            raise ConnectionError
    assert ctx.refunded == []
    with pytest.raises(ConnectionError):
        async with calls.call(cost=92) as call:
            call.not_sent()
            raise ConnectionError
    assert ctx.refunded == [92]


async def test_who_is_cancelled_while_he_waits_gives_all_back() -> None:
    ctx, calls = pace(Reservation(allowed=True, wait_ms=60_000))

    async def never() -> None:
        async with calls.call(cost=7):
            raise AssertionError

    task = asyncio.create_task(never())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ctx.refunded == [7]


async def test_nothing_is_called_that_has_no_slot() -> None:
    _, calls = pace(
        Reservation(allowed=False, wait_ms=1500),
        Reservation(allowed=False, unsatisfiable=True),
        Unavailable("away"),
    )
    for retry_after_s in (1.5, None):
        with pytest.raises(NotNow) as caught:
            async with calls.call(cost=1):
                raise AssertionError
        assert caught.value.retry_after_s == retry_after_s
    with pytest.raises(Unavailable):
        async with calls.call(cost=1):
            raise AssertionError
