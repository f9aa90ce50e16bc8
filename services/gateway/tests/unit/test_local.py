"""Deciding alone: a share of what was last seen, told of before the limiter decides again."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chassis.kernel import errors
from gateway.core import admission, gcra, keys, ports
from gateway.testing import a_policy
from testkit.clock import FakeClock

KEY = keys.Identity("k1", None, frozenset({"jobs:read"}))
ADDRESS = "10.0.0.1"


async def admitted(admit: Any, times: int, **more: Any) -> int:
    """How many of so many requests pass."""
    asked = {"identity": None, "shop": None, "address": ADDRESS, **more}
    passed = 0
    for _ in range(times):
        try:
            await admit(**asked)
            passed += 1
        except errors.Limited:
            pass
    return passed


@pytest.mark.parametrize("gateways", [1, 2, 3])
async def test_alone_a_gateway_gives_out_its_share_of_what_was_left(
    clock: FakeClock, limiter: Any, make_admission: Any, gateways: int
) -> None:
    admit = make_admission(gateways=gateways)
    limiter.paces["api-ip"] = gcra.pace(per_s=30, burst=300)
    for _ in range(60):
        limiter.buckets.take(("api-ip", ADDRESS), limiter.paces["api-ip"])
    assert await admitted(admit, 1) == 1
    limiter.is_away = True
    assert await admitted(admit, 500) == 239 // gateways
    clock.advance(2)
    assert await admitted(admit, 500) in {60 // gateways, 60 // gateways + 1}


@pytest.mark.parametrize("gateways", [1, 2])
async def test_a_key_never_seen_starts_half_full(
    limiter: Any, make_admission: Any, gateways: int
) -> None:
    limiter.is_away = True
    assert await admitted(make_admission(gateways=gateways), 500) == 150 // gateways


async def test_a_share_is_never_less_than_one(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    limiter.paces["api-ip"] = gcra.pace(per_s=10, burst=2)
    admit = make_admission(gateways=8)
    await admitted(admit, 1)
    clock.advance(1)
    limiter.is_away = True
    assert await admitted(admit, 9) == 1


async def test_a_refusal_alone_says_so(limiter: Any, make_admission: Any) -> None:
    limiter.is_away = True
    admit = make_admission()
    await admitted(admit, 150)
    with pytest.raises(errors.Limited) as refused:
        await admit(identity=None, shop=None, address=ADDRESS)
    assert refused.value.headers["Degraded"] == "limits;local"
    assert refused.value.headers["Mainstay-Backend"] == "local"
    assert await admit(identity=None, shop=None, address="10.9.9.9") == "limits;local"


async def test_one_empty_bucket_takes_nothing_from_the_other(
    limiter: Any, make_admission: Any
) -> None:
    limiter.is_away = True
    admit = make_admission()
    asked = {"identity": KEY, "address": ADDRESS}
    assert await admitted(admit, 60, **{**asked, "shop": "s"}) == 50
    keys_left = admit._local.debits()[0]
    assert (keys_left.policy, keys_left.tokens) == ("api-key", 50)
    assert await admitted(admit, 1, **{**asked, "shop": "other"}) == 1


async def test_only_the_first_asks_a_limiter_that_is_away(
    limiter: Any, make_admission: Any
) -> None:
    limiter.is_away = True
    admit = make_admission()
    await admitted(admit, 50)
    await admitted(admit, 50, address="10.0.0.2")
    assert limiter.calls == Counter({"check": 1})


async def test_what_was_given_out_is_told_before_the_limiter_decides_again(
    clock: FakeClock, limiter: Any, make_admission: Any, moved: Counter[str]
) -> None:
    admit = make_admission()
    await admitted(admit, 1)
    limiter.is_away = True
    assert await admitted(admit, 100) == 100
    await admit.come_back()
    assert (limiter.debits, admit.absence.is_on) == ([], True)
    clock.advance(1)
    limiter.is_away = False
    await admit.come_back()
    assert not admit.absence.is_on
    assert limiter.debits == [("api-ip", ("ip", ADDRESS), 71)]
    assert moved["debited"] == 71
    given = limiter.given["api-ip"]
    assert await admitted(admit, 1) == 1
    assert limiter.given["api-ip"] > given


async def test_what_has_flowed_off_is_told_to_nobody(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    limiter.is_away = True
    admit = make_admission()
    await admitted(admit, 50)
    clock.advance(20)
    limiter.is_away = False
    await admit.come_back()
    assert (limiter.debits, admit.absence.is_on) == ([], False)


async def test_a_second_absence_goes_on_where_the_first_ended(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    """However often it comes and goes, half a bucket is given to strangers once."""
    admit = make_admission()
    passed = 0
    for _ in range(10):
        limiter.is_away = True
        passed += await admitted(admit, 300)
        limiter.is_away = False
        while admit.absence.is_on:
            await admit.come_back()
    assert passed == 300


async def test_who_falls_again_soon_has_to_answer_more_often(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    admit = make_admission()
    needed = []
    for _ in range(6):
        limiter.is_away = True
        await admitted(admit, 1)
        limiter.is_away = False
        before = limiter.calls["answers"]
        while admit.absence.is_on:
            await admit.come_back()
        needed.append(limiter.calls["answers"] - before)
    assert needed == [1, 2, 4, 8, 8, 8]
    clock.advance(11)
    limiter.is_away = True
    await admitted(admit, 1)
    limiter.is_away = False
    await admit.come_back()
    assert not admit.absence.is_on


async def test_what_a_policy_says_of_failure_holds(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    limiter.known = [
        a_policy("webhook-in", kind="shop_or_ip", burst=1, on_failure="open"),
        a_policy("login", burst=2, on_failure="closed", max_degraded_s=30.0),
        a_policy("next", burst=1, shadow=True),
    ]
    admit = make_admission()
    await admit.refresh()
    limiter.is_away = True

    def about(policy: str) -> ports.Demand:
        return ports.Demand((policy,), "s", None, ADDRESS)

    for _ in range(50):
        assert await admit.admit(about("webhook-in")) == "limits;open"
        assert await admit.admit(about("next")) == "limits;open"
    assert await admit.admit(about("login")) == "limits;local"
    clock.advance(31)
    with pytest.raises(errors.Unavailable) as closed:
        await admit.admit(about("login"))
    assert closed.value.code == "limits_unavailable"


async def test_webhooks_pass_before_the_policies_have_been_read(
    limiter: Any, make_admission: Any
) -> None:
    limiter.is_away = True
    admit = make_admission()
    for _ in range(2_000):
        assert await admit.admit(ports.Demand(("webhook-in",), "s", None, ADDRESS)) == "limits;open"


async def test_leased_tokens_are_spent_first_and_are_no_debt(
    clock: FakeClock, limiter: Any, make_admission: Any, counted: Counter[Any]
) -> None:
    admit = make_admission()
    for _ in range(60):
        await admitted(admit, 1)
        clock.advance(0.02)
    held = admit.leases.tokens
    assert held
    limiter.is_away = True
    before = counted["lease", "allowed"]
    await admitted(admit, held)
    assert counted["lease", "allowed"] - before == held
    assert admit._local.debits() == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["up", "away"]), st.floats(0, 2), st.integers(1, 60)),
    min_size=1,
    max_size=14,
)


@settings(deadline=None)
@given(STEPS, st.integers(1, 3))
async def test_however_it_comes_and_goes_no_more_is_given_out(
    limiter_on: Any, steps: list[tuple[str, float, int]], gateways: int
) -> None:
    """So many gateways, one limiter: no more than burst and rate, but for half a bucket of a key
    that was never seen and a token each where shares are rounded."""
    clock = FakeClock()
    limiter = limiter_on(clock)
    pace = limiter.paces["api-ip"] = gcra.pace(per_s=5, burst=40)
    doors = [
        admission.Admission(
            limiter=limiter, monotonic=clock.monotonic, gateways=gateways,
            counted=lambda *_: None, moved=lambda *_: None,
        )
        for _ in range(gateways)
    ]  # fmt: skip
    limiter.known = [a_policy("api-ip", burst=pace.burst, t_us=pace.t_us)]
    for door in doors:
        await door.refresh()
    passed, elapsed = 0, 0.0
    for state, pause, asks in steps:
        limiter.is_away = state == "away"
        for door in doors:
            for _ in range(10 if state == "up" else 0):
                await door.come_back()
            passed += await admitted(door, asks)
        clock.advance(pause)
        elapsed += pause
    falls = sum(state == "away" for state, _, _ in steps)
    assert passed <= pace.burst + 5 * elapsed + pace.burst / 2 + (falls + 1) * gateways
