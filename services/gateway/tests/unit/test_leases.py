"""Tokens taken in advance: fewer calls, no more tokens."""

import asyncio
import functools
from collections import Counter
from typing import Any

import pytest

from chassis.kernel import errors
from gateway.core import admission, gcra, keys
from gateway.core.accounts import Accounts
from testkit.clock import FakeClock

KEY = keys.Identity("k1", "s.myshopify.com", frozenset({"jobs:read"}))
ADDRESS = "10.0.0.1"


async def ask(admit: Any, identity: keys.Identity | None = None, shop: str | None = None) -> None:
    await admit(identity=identity, shop=shop, address=ADDRESS)


async def drive(
    admit: Any, clock: FakeClock, *, per_s: int, seconds: int, **more: Any
) -> tuple[int, int]:
    """(admitted, refused) of a steady stream. Background work has its turn between two."""
    passed = refused = 0
    for n in range(per_s * seconds):
        try:
            await ask(admit, **more)
            passed += 1
        except errors.Limited:
            refused += 1
        await settle()
        clock.advance(1 / per_s)
        if n % max(1, per_s // 4) == 0:
            admit.leases.sweep()
    return passed, refused


async def settle() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_a_key_that_is_not_busy_is_checked_one_by_one(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    passed, _ = await drive(make_admission(), clock, per_s=4, seconds=5)
    assert (passed, limiter.calls["check"], limiter.calls["lease"]) == (20, 20, 0)


async def test_a_busy_key_costs_a_few_calls_per_thousand(
    clock: FakeClock, limiter: Any, make_admission: Any, counted: Counter[Any]
) -> None:
    limiter.paces["api-ip"] = gcra.pace(per_s=1_000, burst=10_000)
    passed, refused = await drive(make_admission(), clock, per_s=200, seconds=10)
    assert (passed, refused) == (2_000, 0)
    assert sum(limiter.calls.values()) <= 40
    assert counted["lease", "allowed"] >= 1_950


async def test_no_lease_is_more_than_a_share_of_the_bucket(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    admit = make_admission()
    held = []
    for _ in range(200):
        await ask(admit)
        await settle()
        held.append(admit.leases.tokens)
        clock.advance(0.02)
    assert 2 <= max(held) <= 0.1 * limiter.paces["api-ip"].burst


async def test_what_is_leased_adds_up_to_what_the_limit_allows(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    """Ten times as many as may: all of the rate passes, and no more, at one call a second."""
    admit = make_admission()
    await drive(admit, clock, per_s=300, seconds=5)
    before = Counter(limiter.calls)
    passed, refused = await drive(admit, clock, per_s=300, seconds=10)
    assert passed + refused == 3_000
    assert 270 <= passed <= 330
    assert sum((limiter.calls - before).values()) <= 10 * 3


async def test_nobody_waits_for_a_refill_while_tokens_are_left(
    clock: FakeClock, limiter: Any, make_admission: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = make_admission()
    await drive(admit, clock, per_s=50, seconds=2)
    held = admit.leases.tokens
    assert held
    asked = limiter.calls["check"]
    never = asyncio.Event()

    async def hangs(*_: Any, **__: Any) -> None:
        await never.wait()

    monkeypatch.setattr(limiter, "lease", hangs)
    async with asyncio.timeout(5):
        for _ in range(held):
            await ask(admit)
    assert limiter.calls["check"] == asked
    never.set()


async def test_one_refill_at_a_time_however_many_wait(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    limiter.paces["api-ip"] = gcra.pace(per_s=1_000, burst=10_000)
    admit = make_admission()
    await asyncio.gather(*(ask(admit) for _ in range(100)))
    assert 1 <= limiter.calls["lease"] <= 5


async def test_a_bucket_too_small_to_share_is_never_leased(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    limiter.paces["api-ip"] = gcra.pace(per_s=100, burst=19)
    await drive(make_admission(), clock, per_s=50, seconds=3)
    assert limiter.calls["lease"] == 0


async def test_what_an_idle_key_holds_goes_back(
    clock: FakeClock, limiter: Any, make_admission: Any, moved: Counter[str]
) -> None:
    admit = make_admission()
    await drive(admit, clock, per_s=50, seconds=1)
    held = admit.leases.tokens
    assert held
    clock.advance(1.4)
    admit.leases.sweep()
    await settle()
    assert sum(tokens for _, tokens in limiter.returned) == held == moved["returned"]
    assert admit.leases.tokens == 0


async def test_a_stop_gives_everything_back_and_takes_no_more(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    admit = make_admission()
    await drive(admit, clock, per_s=50, seconds=1)
    held = admit.leases.tokens
    await admit.leases.close()
    assert sum(tokens for _, tokens in limiter.returned) == held
    leased = limiter.calls["lease"]
    await drive(admit, clock, per_s=50, seconds=1)
    assert limiter.calls["lease"] == leased


async def test_who_makes_room_gives_back_first(
    clock: FakeClock, limiter: Any, make_admission: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "Accounts", functools.partial(Accounts, capacity=3))
    admit = make_admission()
    await drive(admit, clock, per_s=50, seconds=1)
    held = admit.leases.tokens
    assert held
    for n in range(3):
        await admit(identity=None, shop=None, address=f"10.1.0.{n}")
    await settle()
    assert sum(tokens for _, tokens in limiter.returned) == held
    assert admit.leases.tokens == 0


async def test_a_token_past_its_time_is_not_spent(
    clock: FakeClock, limiter: Any, make_admission: Any, counted: Counter[Any]
) -> None:
    admit = make_admission()
    await drive(admit, clock, per_s=50, seconds=1)
    assert admit.leases.tokens
    clock.advance(2.1)
    leased = counted["lease", "allowed"]
    limiter.is_away = True
    await ask(admit)
    assert counted["lease", "allowed"] == leased
    assert counted["local", "allowed"] == 1


async def test_who_passes_by_leases_is_asked_for_by_name_now_and_then(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    """So that a list of denials holds for busy keys too."""
    admit = make_admission()
    await drive(admit, clock, per_s=30, seconds=8)
    limiter.listed = {ADDRESS}
    passed, refused = await drive(admit, clock, per_s=30, seconds=6)
    assert passed <= 30 * admission.CLEARED_S + 1
    assert refused


async def test_a_refusal_of_one_limit_spends_nothing_of_the_other(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    """The key's tokens are leased, the shop's bucket is too small for that and empty."""
    limiter.paces["api"] = gcra.pace(per_s=1, burst=5)
    admit = make_admission()
    passed, refused = await drive(admit, clock, per_s=40, seconds=6, identity=KEY, shop=KEY.shop)
    await admit.leases.close()
    assert limiter.calls["lease"]
    assert refused > 200
    assert limiter.given["api-key"] - sum(tokens for _, tokens in limiter.returned) == passed


async def test_a_service_that_leases_nothing_is_left_alone(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    limiter.leases_nothing = True
    passed, refused = await drive(make_admission(), clock, per_s=20, seconds=10)
    assert (passed, refused, limiter.calls["lease"]) == (200, 0, 1)
