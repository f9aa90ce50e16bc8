"""Ten thousand strangers: memory stays flat, and those we know do not feel it."""

import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chassis.kernel import errors
from gateway.core import accounts, admission, callers, gcra, keys, local
from testkit.clock import FakeClock

SHOP = keys.Identity("k1", "s.myshopify.com", frozenset({"jobs:read"}))


def ipv4(n: int) -> str:
    return f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"


def ipv6(n: int) -> str:
    return f"2001:db8:{n >> 16:x}:{n & 65535:x}::1"


async def crowd(admit: Any, addresses: Callable[[int], str], count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        try:
            await admit(identity=None, shop=None, address=addresses(n))
        except errors.Limited:
            pass


def live_objects() -> int:
    gc.collect()
    return len(gc.get_objects())


@pytest.mark.parametrize("addresses", [ipv4, ipv6])
@pytest.mark.parametrize("is_away", [False, True])
async def test_memory_is_flat_and_a_known_shop_unharmed(
    clock: FakeClock,
    limiter: Any,
    make_admission: Any,
    monkeypatch: pytest.MonkeyPatch,
    is_away: bool,
    addresses: Callable[[int], str],
) -> None:
    monkeypatch.setattr(admission, "Accounts", partial(accounts.Accounts, capacity=1_000))
    monkeypatch.setattr(admission, "Callers", partial(callers.Callers, capacity=1_000))
    monkeypatch.setattr(admission, "Local", partial(local.Local, capacity=1_000))
    limiter.buckets = gcra.Buckets(clock.monotonic, capacity=1_000)
    admit = make_admission()
    known = {"identity": SHOP, "shop": SHOP.shop, "address": "192.0.2.1"}
    for _ in range(60):
        await admit(**known)
    limiter.is_away = is_away
    await crowd(admit, addresses, 10_000)
    limiter.demands.clear()
    assert len(admit) <= 3 * 1_000 + gcra.SHARED + 4
    before = live_objects()
    await crowd(admit, addresses, 5_000, start=10_000)
    limiter.demands.clear()
    # Others in this process make objects too; whoever kept the strangers would hold one of each.
    assert live_objects() - before < 2_500
    passed = 0
    for _ in range(60):
        try:
            await admit(**known)
            passed += 1
        except errors.Limited:
            pass
    assert 39 <= passed <= 40
