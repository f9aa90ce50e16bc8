"""Rates are read exactly, never faster than said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from contracts.ratelimits import PolicyPut, Priority
from ratelimit_service.core import gcra, policy
from ratelimit_service.store import policies


@pytest.mark.parametrize(
    ("rate", "t_us"),
    [
        ("1/s", 1_000_000),
        ("100/s", 10_000),
        ("10/5m", 30_000_000),
        ("3/s", 333_334),
        ("10000/s", 100),
        ("1/d", 86_400_000_000),
    ],
)
def test_an_interval_is_the_period_by_the_count_rounded_up(rate: str, t_us: int) -> None:
    assert policy.interval_us(rate) == t_us


@given(st.integers(1, 10_000), st.integers(1, 1000))
def test_no_rate_is_exceeded_by_rounding(count: int, seconds: int) -> None:
    assert policy.interval_us(f"{count}/{seconds}s") * count >= seconds * 1_000_000


def test_more_than_ten_thousand_a_second_is_refused() -> None:
    with pytest.raises(errors.Invalid, match="/rate"):
        policy.interval_us("600001/m")


def test_the_seeds_are_policies() -> None:
    seeds = {each.id: each for each in policies.seed_policies()}
    sender = seeds["sms-sender"]
    assert sender.pace == gcra.Pace(10_000, 2_000_000, policies.SEED_VERSION)
    assert seeds["api-key"].pace.t_us == 200
    assert seeds["shopify-gql"].floors_us[Priority.BATCH] == 600 * 10_000
    assert seeds["shopify-gql"].floors_us[Priority.DEFAULT] == 0


def test_a_bucket_that_never_fills_is_refused() -> None:
    spec = PolicyPut.model_validate_json('{"key":"shop","rate":"1/9999d","burst":1000000}')
    with pytest.raises(errors.Invalid, match="/burst"):
        policy.pace(spec)
