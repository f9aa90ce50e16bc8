"""What a simulation promises, on random traffic."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from contracts.ratelimits import PolicyChange, PolicyPut
from ratelimit_service.core import gcra, policy
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.simulation import MINUTE_US, Simulator, changed
from ratelimit_service.core.usage import Row

SHOP = "spring-garden.myshopify.com"
START = datetime.fromtimestamp(0, UTC)
FIRST = 29_000_000
RATES = [1, 2, 3, 7, 10, 50, 100, 333, 1000, 5000]


def made(**spec: object) -> Policy:
    spec = {"key": "shop", **spec}
    model = PolicyPut.model_validate(spec, strict=False)
    return policy.build("api", version=1, spec=model, updated_at=START)


def simulated(given: Policy, rows: list[Row]) -> tuple[int, int]:
    """Would be denied: asks, tokens."""
    simulator = Simulator(changed=given, minutes=len(rows))
    simulator.feed(rows)
    lost = simulator._shop.lost if simulator._shop else 0
    return simulator.answer().would_deny, lost


def rows_of(costs: list[int]) -> list[Row]:
    return [
        Row(FIRST + at, SHOP, "api", allowed=cost, cost=cost)
        for at, cost in enumerate(costs)
        if cost
    ]


def admitted(given: Policy, asks: list[tuple[int, int]]) -> list[Row]:
    """Real traffic, each ask (moment, cost) as the kernel decides it; what passed, by minute."""
    record: gcra.Record | None = None
    rows: dict[int, Row] = {}
    for at_us, cost in sorted(asks):
        now_us = FIRST * MINUTE_US + at_us
        limit = given.limit("key", cost, now_us)
        level = gcra.level(record, given.pace, now_us, limit.window)
        if level.fits(limit):
            record = gcra.recorded(level.after(limit), now_us)
            minute = now_us // MINUTE_US
            row = rows.setdefault(minute, Row(minute, SHOP, "api"))
            row.allowed += 1
            row.cost += cost
    return list(rows.values())


# Crowds that ask for more than there is, from some moment on, and a few others between.
CROWDS = st.builds(
    lambda start_us, gap_us, cost: [(start_us + n * gap_us, cost) for n in range(200)],
    st.integers(0, MINUTE_US),
    st.integers(1, 2_000_000),
    st.integers(1, 3),
)
OTHERS = st.lists(st.tuples(st.integers(0, 5 * MINUTE_US), st.integers(1, 40)), max_size=20)
ASKS = st.builds(lambda one, two: [*one, *two], CROWDS, OTHERS)


@given(ASKS, st.sampled_from(RATES), st.integers(1, 60))
def test_the_policy_in_force_denies_nothing_of_what_it_has_admitted(
    asks: list[tuple[int, int]], rate: int, burst: int
) -> None:
    given = made(rate=f"{rate}/m", burst=burst)
    assert simulated(given, admitted(given, asks)) == (0, 0)


@given(ASKS, st.integers(1, 60), st.sampled_from(["1m", "2m", "h", "d"]))
def test_so_it_is_with_a_fixed_quota(asks: list[tuple[int, int]], n: int, period: str) -> None:
    given = made(algorithm="fixed", limit=f"{n}/{period}")
    assert simulated(given, admitted(given, asks)) == (0, 0)


@given(
    st.lists(st.integers(0, 3000), max_size=12),
    st.sampled_from(RATES),
    st.sampled_from(RATES),
    st.integers(1, 500),
)
def test_a_lower_rate_never_denies_less(costs: list[int], one: int, two: int, burst: int) -> None:
    low, high = sorted((one, two))
    rows = rows_of(costs)
    few, tokens = simulated(made(rate=f"{high}/m", burst=burst), rows)
    many, more = simulated(made(rate=f"{low}/m", burst=burst), rows)
    assert more >= tokens
    assert many >= few


def test_what_is_denied_is_what_the_rate_leaves_over() -> None:
    minutes = 10
    denied, _ = simulated(made(rate="10/s", burst=100), rows_of([1200] * minutes))
    # 100 at once and 600 a minute; a step's worth and a token are given to the shop's benefit.
    assert abs(denied - (1200 * minutes - 100 - 600 * minutes)) <= 10 * 5 + 1


def test_asks_are_told_at_the_average_cost_of_the_shop() -> None:
    row = Row(FIRST, SHOP, "api", allowed=100, denied=20, cost=1200)
    simulator = Simulator(changed=made(rate="1/h", burst=600), minutes=1)
    simulator.feed([row])
    answer = simulator.answer()
    assert (answer.asked, answer.denied, answer.shops) == (120, 20, 1)
    assert answer.would_deny == 60
    assert [each.would_deny for each in answer.worst] == [60]


def test_the_worst_are_named_first_and_are_few() -> None:
    simulator = Simulator(changed=made(rate="1/h", burst=1), minutes=1)
    simulator.feed([Row(FIRST, f"shop-{n:02}", "api", allowed=n, cost=n) for n in range(1, 41)])
    worst = simulator.answer().worst
    assert [each.shop for each in worst[:2]] == ["shop-40", "shop-39"]
    assert len(worst) == 20


def test_a_change_that_cannot_be_counted_is_refused() -> None:
    with pytest.raises(errors.Invalid) as refused:
        changed(made(rate="1/s", burst=10), PolicyChange(rate="20000/s"))
    assert refused.value.flaws[0].pointer == "/rate"
    with pytest.raises(errors.Invalid):
        changed(made(algorithm="concurrency", limit=2, lease_s=5), PolicyChange(limit=3))
