"""Rates are read exactly, never faster than said."""

from datetime import UTC, datetime

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
    assert (seeds["login"].pace.burst, seeds["login"].window_s) == (10, 300)
    assert seeds["sms-brand"].pin is gcra.Pin.STRICT
    assert seeds["exports"].is_concurrency
    assert seeds["shopify-gql"].floors_us[Priority.BATCH] == 600 * 10_000
    assert seeds["shopify-gql"].floors_us[Priority.DEFAULT] == 0


def test_a_bucket_that_never_fills_is_refused() -> None:
    spec = PolicyPut.model_validate_json('{"key":"shop","rate":"1/9999d","burst":1000000}')
    with pytest.raises(errors.Invalid, match="/burst"):
        policy.pace(spec)


@pytest.mark.parametrize(
    ("described", "pointer"),
    [
        ('"rate":"10/s"', "/burst"),
        ('"burst":5', "/rate"),
        ('"rate":"10/s","burst":5,"limit":"5/d"', "/limit"),
        ('"rate":"10/s","burst":5,"tz":"UTC"', "/tz"),
        ('"rate":"10/s","burst":5,"lease_s":5', "/lease_s"),
        ('"rate":"10001/s","burst":5', "/rate"),
        ('"rate":"1/999999d","burst":1', "/rate"),
        ('"rate":"10/s","burst":5,"default_cost":3,"max_cost":2', "/default_cost"),
        ('"rate":"10/s","burst":5,"floors":{"batch":0.9}', "/floors/batch"),
        ('"algorithm":"fixed"', "/limit"),
        ('"algorithm":"fixed","limit":5', "/limit"),
        ('"algorithm":"fixed","limit":"5"', "/limit"),
        ('"algorithm":"fixed","limit":"5/d","rate":"1/s"', "/rate"),
        ('"algorithm":"fixed","limit":"5/h","tz":"America/Los_Angeles"', "/tz"),
        ('"algorithm":"fixed","limit":"5/d","tz":"America/Lost_Angels"', "/tz"),
        ('"algorithm":"fixed","limit":"5/d","tz":"../etc/passwd"', "/tz"),
        ('"algorithm":"fixed","limit":"5/d","tz":"America"', "/tz"),
        ('"algorithm":"fixed","limit":"5/9999d"', "/limit"),
        ('"algorithm":"sliding","limit":"5/200mo"', "/limit"),
        ('"algorithm":"sliding","limit":"20000/s"', "/limit"),
        ('"algorithm":"sliding","limit":"5/d","learn":true', "/learn"),
        ('"algorithm":"concurrency","limit":"5/d","lease_s":5', "/limit"),
        ('"algorithm":"concurrency","limit":5', "/lease_s"),
        ('"algorithm":"concurrency","limit":5,"lease_s":5,"floors":{"batch":0.1}', "/floors"),
    ],
)
def test_a_policy_that_cannot_be_counted_says_where(described: str, pointer: str) -> None:
    spec = PolicyPut.model_validate_json('{"key":"shop",%s}' % described)  # noqa: UP031 - braces
    with pytest.raises(errors.Invalid) as caught:
        policy.build("p", version=1, spec=spec, updated_at=datetime.now(UTC))
    assert [flaw.pointer for flaw in caught.value.flaws] == [pointer]


def built(described: str) -> policy.Policy:
    spec = PolicyPut.model_validate_json('{"key":"shop",%s}' % described)  # noqa: UP031 - braces
    return policy.build("p", version=3, spec=spec, updated_at=datetime.now(UTC))


def test_quotas_and_concurrency_are_counted_in_tokens() -> None:
    daily = built('"algorithm":"fixed","limit":"2000/d","tz":"America/Los_Angeles"')
    assert daily.pace == gcra.Pace(1, 2000, 3)
    assert (daily.window_s, daily.key_name) == (86_400, "p:1d@America/Los_Angeles")
    sliding = built('"algorithm":"sliding","limit":"100/15m","floors":{"batch":0.3}')
    assert (sliding.window_s, sliding.key_name) == (900, "p:15m")
    assert sliding.floors_us[Priority.BATCH] == 30
    exports = built('"algorithm":"concurrency","limit":"2","lease_s":30')
    assert (exports.is_concurrency, exports.pace.burst) == (True, 2)


def test_small_and_strict_policies_are_pinned() -> None:
    assert built('"rate":"1/s","burst":10').pin is gcra.Pin.SMALL
    assert built('"rate":"1/s","burst":11').pin is gcra.Pin.NONE
    assert built('"rate":"1/s","burst":11,"consistency":"strict"').pin is gcra.Pin.STRICT


def test_a_floor_is_the_share_that_is_written() -> None:
    assert (
        built('"rate":"1/s","burst":100,"floors":{"batch":0.07}').floors_us[Priority.BATCH]
        == 7_000_000
    )
