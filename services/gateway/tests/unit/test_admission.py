"""Which limits a request meets, and what is said when one is reached."""

import pytest

from chassis.kernel import errors
from gateway.core import admission, gcra, keys, ports
from testkit.clock import FakeClock

KEY = keys.Identity("k1", None, frozenset({"jobs:read"}))
SHOP = keys.Identity("k2", "s", frozenset({"jobs:read"}))
ADMIN = keys.Identity("k3", None, frozenset({"admin"}))


class Limiter:
    """Answers what it is told to; away without an answer."""

    def __init__(self, answer: ports.Decision | None = None) -> None:
        self.answer = answer
        self.demands: list[ports.Demand] = []

    async def check(self, demand: ports.Demand) -> ports.Decision:
        self.demands.append(demand)
        if self.answer is None:
            raise errors.Unavailable("away")
        return self.answer


def a_decision(*, allowed: bool, burst: int = 3, degraded: bool = False) -> ports.Decision:
    limit = ports.Limit(
        policy="api-ip", burst=burst, remaining=0, window_s=3, reset_s=0.2, violated=not allowed
    )
    return ports.Decision(allowed=allowed, limits=(limit,), retry_after_s=0.2, degraded=degraded)


def door(limiter: Limiter, clock: FakeClock) -> tuple[admission.Admission, list[tuple[str, str]]]:
    counted: list[tuple[str, str]] = []
    made = admission.Admission(
        limiter=limiter,
        buckets=gcra.Buckets(clock.monotonic),
        counted=lambda backend, outcome: counted.append((backend, outcome)),
    )
    return made, counted


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
    clock: FakeClock,
    identity: keys.Identity | None,
    shop: str | None,
    policies: tuple[str, ...],
) -> None:
    limiter = Limiter(a_decision(allowed=True))
    admit, _ = door(limiter, clock)
    assert await admit(identity=identity, shop=shop, address="10.0.0.1") is None
    assert limiter.demands[0].policies == policies


async def test_operators_are_not_counted(clock: FakeClock) -> None:
    limiter = Limiter()
    admit, counted = door(limiter, clock)
    assert await admit(identity=ADMIN, shop="s", address="10.0.0.1") is None
    assert (limiter.demands, counted) == ([], [])


async def test_a_refusal_names_the_limit(clock: FakeClock) -> None:
    admit, counted = door(Limiter(a_decision(allowed=False)), clock)
    with pytest.raises(errors.Limited) as refused:
        await admit(identity=None, shop=None, address="10.0.0.1")
    assert refused.value.headers == {
        "RateLimit": '"api-ip";r=0;t=1',
        "RateLimit-Policy": '"api-ip";q=3;w=3',
    }
    assert refused.value.retry_after_s == 0.2
    assert counted == [("service", "refused")]


async def test_alone_the_gateway_keeps_to_what_it_was_told(clock: FakeClock) -> None:
    limiter = Limiter(a_decision(allowed=True, burst=3))
    admit, counted = door(limiter, clock)
    await admit(identity=None, shop=None, address="10.0.0.1")
    limiter.answer = None
    for _ in range(3):
        assert await admit(identity=None, shop=None, address="10.0.0.1") == "limits;local"
    with pytest.raises(errors.Limited) as refused:
        await admit(identity=None, shop=None, address="10.0.0.1")
    assert refused.value.headers["Degraded"] == "limits;local"
    assert counted[-1] == ("local", "refused")
    assert await admit(identity=None, shop=None, address="10.0.0.2") == "limits;local"
    clock.advance(1)
    assert await admit(identity=None, shop=None, address="10.0.0.1") == "limits;local"


async def test_one_empty_bucket_takes_nothing_from_the_other(clock: FakeClock) -> None:
    admit, _ = door(Limiter(), clock)
    burst = admission.RATES["api"].burst
    for _ in range(burst):
        await admit(identity=KEY, shop="s", address="10.0.0.1")
    for _ in range(5):
        with pytest.raises(errors.Limited):
            await admit(identity=KEY, shop="s", address="10.0.0.1")
    await admit(identity=KEY, shop="other", address="10.0.0.1")


async def test_a_limiter_that_decides_alone_is_told_of(clock: FakeClock) -> None:
    admit, _ = door(Limiter(a_decision(allowed=True, degraded=True)), clock)
    assert await admit(identity=None, shop=None, address="10.0.0.1") == "limits;local"
