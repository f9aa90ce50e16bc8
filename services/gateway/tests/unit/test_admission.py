"""Which limits a request meets, who decides on it, and what is said when one is reached."""

from collections import Counter
from typing import Any

import pytest

from chassis.kernel import errors
from gateway.core import admission, gcra, keys, ports
from gateway.testing import a_policy
from testkit.clock import FakeClock

KEY = keys.Identity("k1", None, frozenset({"jobs:read"}))
SHOP = keys.Identity("k2", "s", frozenset({"jobs:read"}))
ADMIN = keys.Identity("k3", None, frozenset({"admin"}))
ADDRESS = "10.0.0.1"


async def ask(admit: Any, address: str = ADDRESS, **more: Any) -> str | None:
    said: str | None = await admit(**{"identity": None, "shop": None, "address": address, **more})
    return said


async def admitted(admit: Any, times: int, **more: Any) -> int:
    """How many of so many requests pass."""
    passed = 0
    for _ in range(times):
        try:
            await ask(admit, **more)
            passed += 1
        except errors.Limited:
            pass
    return passed


@pytest.mark.parametrize(
    ("identity", "shop", "policies"),
    [
        (None, None, ("api-ip",)),
        (KEY, None, ("api-key",)),
        (KEY, "s", ("api-key", "api")),
        (SHOP, "s", ("api-key", "api")),
    ],
)
async def test_what_is_counted(
    limiter: Any,
    make_admission: Any,
    identity: keys.Identity | None,
    shop: str | None,
    policies: tuple[str, ...],
) -> None:
    assert await ask(make_admission(), identity=identity, shop=shop) is None
    assert limiter.demands[0].policies == policies


async def test_operators_are_not_counted(
    limiter: Any, make_admission: Any, counted: Counter[Any]
) -> None:
    assert await ask(make_admission(), identity=ADMIN, shop="s") is None
    assert (limiter.demands, counted) == ([], Counter())


async def test_a_refusal_names_the_limit_and_who_decided(
    limiter: Any, make_admission: Any, counted: Counter[Any]
) -> None:
    limiter.paces["api-ip"] = gcra.pace(per_s=2, burst=3)
    admit = make_admission()
    assert await admitted(admit, 3) == 3
    with pytest.raises(errors.Limited) as refused:
        await ask(admit)
    assert refused.value.headers == {
        "RateLimit": '"api-ip";r=0;t=1',
        "RateLimit-Policy": '"api-ip";q=3;w=2',
        "Mainstay-Backend": "postgres",
    }
    assert refused.value.retry_after_s == 0.5
    assert counted["service", "refused"] == 1


async def test_a_refusal_is_believed_until_it_is_over(
    clock: FakeClock, limiter: Any, make_admission: Any, counted: Counter[Any]
) -> None:
    limiter.paces["api-ip"] = gcra.pace(per_s=2, burst=3)
    admit = make_admission()
    assert await admitted(admit, 1_000) == 3
    assert (limiter.calls["check"], counted["denial", "refused"]) == (4, 996)
    clock.advance(0.4)
    with pytest.raises(errors.Limited) as refused:
        await ask(admit)
    assert refused.value.retry_after_s == pytest.approx(0.1)
    assert refused.value.headers["RateLimit"] == '"api-ip";r=0;t=1'
    assert await ask(admit, address="10.0.0.2") is None
    clock.advance(0.11)
    assert await ask(admit) is None


async def test_a_refusal_is_believed_for_a_second_at_most(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    limiter.paces["api-ip"] = gcra.pace(per_s=0.1, burst=1)
    admit = make_admission()
    for _ in range(50):
        await admitted(admit, 20)
        clock.advance(0.1)
    assert 5 <= limiter.calls["check"] <= 7


async def test_who_is_on_a_list_costs_a_call_a_second(
    clock: FakeClock, limiter: Any, make_admission: Any
) -> None:
    limiter.listed = {ADDRESS}
    admit = make_admission()
    assert await admitted(admit, 100) == 0
    assert limiter.calls["check"] == 1
    limiter.listed = set()
    clock.advance(1.01)
    assert await ask(admit) is None


async def test_a_limiter_that_decides_alone_is_told_of(limiter: Any, make_admission: Any) -> None:
    limiter.backend = "local"
    assert await ask(make_admission()) == "limits;local"


async def test_a_policy_that_is_gone_counts_nobody(limiter: Any, make_admission: Any) -> None:
    limiter.known = [a_policy("api")]
    admit = make_admission()
    await admit.refresh()
    assert await ask(admit) is None
    assert limiter.calls["check"] == 0


async def test_one_who_is_not_understood_is_counted_here_and_only_he(
    limiter: Any, make_admission: Any, counted: Counter[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = make_admission()

    async def refuses(demand: ports.Demand) -> ports.Decision:
        raise errors.Invalid("what is this?")

    with monkeypatch.context() as patched:
        patched.setattr(limiter, "check", refuses)
        assert await ask(admit) == "limits;local"
    assert not admit.absence.is_on
    assert await ask(admit) is None


def test_the_answer_of_a_list_has_no_limit_to_name() -> None:
    refused = admission.refusal(ports.Decision(False, (), 0.0, "redis"))
    assert refused.headers == {"Mainstay-Backend": "redis"}
