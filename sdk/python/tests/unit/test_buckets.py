"""Deciding without a limiter: by a share of what was seen, half of what never was."""

import pytest

from mainstay.buckets import Buckets, Rate
from mainstay.limits import LimitState

SHOP = (("shop", "a.myshopify.com"),)
OTHER = (("shop", "b.myshopify.com"),)


def seen(left: int, *, limit: int = 10, window_s: int = 100, reset_ms: int = 0) -> LimitState:
    return LimitState(
        policy="api", limit=limit, remaining=left, reset_ms=reset_ms, window_s=window_s
    )


def buckets(replicas: int = 1, capacity: int = 20_000) -> Buckets:
    return Buckets(replicas=replicas, rates={}, capacity=capacity)


def passed(some: Buckets, times: int, now: float, subject: object = SHOP) -> int:
    return sum(some.take(["api"], subject, 1, now).allowed for _ in range(times))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("replicas", "left", "passes"), [(1, 7, 7), (2, 6, 3), (3, 10, 3), (1, 0, 0)]
)
def test_a_key_goes_on_where_it_was_seen_divided_by_the_replicas(
    replicas: int, left: int, passes: int
) -> None:
    some = buckets(replicas)
    some.see(SHOP, [seen(left)], 0.0)
    assert passed(some, 20, 0.0) == passes


def test_what_was_seen_long_ago_has_refilled_since() -> None:
    some = buckets()
    some.see(SHOP, [seen(0)], 0.0)
    assert passed(some, 20, 50.0) == 5
    assert passed(some, 20, 1000.0) == 10


def test_it_refills_at_the_share_of_the_rate() -> None:
    some = buckets(2)
    some.see(SHOP, [seen(0)], 0.0)
    assert passed(some, 5, 20.0) == 1
    refused = some.take(["api"], SHOP, 1, 20.0)
    assert 0 < refused.wait_s <= 20


def test_a_key_that_was_never_seen_starts_half_full() -> None:
    some = buckets()
    some.see(SHOP, [seen(10)], 0.0)
    assert passed(some, 20, 0.0, OTHER) == 5


def test_of_one_token_a_stranger_has_one() -> None:
    some = Buckets(replicas=4, rates={"api": Rate(per_s=0.1, burst=1)})
    assert passed(some, 5, 0.0) == 1
    assert passed(some, 5, 39.0) == 0
    assert passed(some, 5, 41.0) == 1


def test_a_policy_that_nobody_knows_lets_pass() -> None:
    assert passed(buckets(), 500, 0.0) == 500


def test_a_quota_is_not_refilled_before_its_window_ends() -> None:
    some = buckets()
    some.see(SHOP, [seen(0, limit=100, window_s=86_400, reset_ms=3_600_000)], 0.0)
    assert passed(some, 5, 3_599.0) == 0
    assert some.take(["api"], SHOP, 1, 3_599.0).wait_s == pytest.approx(1.0)
    assert passed(some, 200, 3_601.0) == 100
    assert passed(some, 5, 50_000.0) == 0


def test_a_cost_beyond_the_share_passes_once_and_is_paid_for() -> None:
    some = buckets(5)
    some.see(SHOP, [seen(10)], 0.0)
    assert some.take(["api"], SHOP, 8, 0.0).allowed
    assert not some.take(["api"], SHOP, 1, 0.0).allowed
    vain = some.take(["api"], SHOP, 11, 10_000.0)
    assert (vain.allowed, vain.unsatisfiable) == (False, True)


def test_several_policies_pass_together_or_take_nothing() -> None:
    some = Buckets(replicas=1, rates={"wide": Rate(1, 20), "narrow": Rate(0.001, 2)})
    assert some.take(["wide", "narrow"], SHOP, 1, 0.0).allowed
    refused = some.take(["wide", "narrow"], SHOP, 1, 0.0)
    assert [(one.policy, one.violated) for one in refused.limits] == [
        ("wide", False), ("narrow", True),
    ]  # fmt: skip
    assert some.take(["wide"], SHOP, 1, 0.0).limits[0].remaining == 8


def test_a_shadow_limit_refuses_nobody() -> None:
    some = buckets()
    some.see(SHOP, [seen(0).model_copy(update={"shadow": True})], 0.0)
    found = some.take(["api"], SHOP, 1, 0.0)
    assert (found.allowed, found.limits[0].violated) == (True, True)


def test_what_was_spent_here_is_told_once_less_what_has_drained() -> None:
    some = buckets()
    some.see(SHOP, [seen(8)], 0.0)  # two are missing, twenty seconds' worth
    passed(some, 4, 0.0)
    assert [(one.subject, one.cost) for one in some.debits(0.0)] == [(SHOP, 4)]
    assert list(some.debits(0.0)) == []
    passed(some, 2, 0.0)
    (debit,) = some.debits(70.0)  # eight tokens drain in eighty seconds, those of before first
    assert debit.cost == 1
    some.put_back(debit)
    assert [one.cost for one in some.debits(70.0)] == [1]
    assert list(some.debits(90.0)) == []


def test_ten_thousand_addresses_leave_it_as_small_as_it_is() -> None:
    some = buckets(capacity=100)
    for number in range(10_000):
        subject = (("ip", f"10.0.{number // 250}.{number % 250}"),)
        some.see(subject, [seen(1)], 0.0)
        some.take(["api"], subject, 1, 0.0)
    assert len(some) == 200
