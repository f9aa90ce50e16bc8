"""Tokens that only we can make, and refunds that give back no more than is still there."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from contracts.ratelimits import Backend, PolicyPut
from ratelimit_service.core import gcra, observing, policy, tokens
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.refunds import Refunds
from ratelimit_service.core.subject import Owner, is_of
from ratelimit_service.core.switch import Ruling
from ratelimit_service.core.tokens import Charge, Tokens
from testkit.clock import FakeClock

KEY = "{s:a}:api"
SECOND_US = 1_000_000
HOUR_S = 3600


class World:
    """A policy of 1/s, and who decides: records the order in which it is asked."""

    def __init__(self, *, rate: str = "1/s", debt_us: int = 100 * SECOND_US) -> None:
        self.clock = FakeClock()
        self.tokens = Tokens("a secret", self.now_us)
        self.debt_us = debt_us
        self.asked: list[str] = []
        self.gifts: list[gcra.Limit] = []
        self.spent: set[bytes] = set()
        self.breaks: Exception | None = None
        self.table = PolicyTable([self.policy(rate)])

    def now_us(self) -> int:
        return int(self.clock.now().timestamp() * SECOND_US)

    def policy(self, rate: str) -> policy.Policy:
        spec = PolicyPut.model_validate_json(f'{{"key": "shop", "rate": "{rate}", "burst": 100}}')
        start = datetime.fromtimestamp(0, UTC)
        return policy.build("api", version=0, spec=spec, updated_at=start)

    async def rule(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        self.asked.append("decider")
        if self.breaks is not None:
            raise self.breaks
        [ask] = asks
        self.gifts += ask.limits
        levels = tuple(gcra.Level(self.debt_us, limit.pace) for limit in ask.limits)
        return [Ruling(gcra.Verdict(True, levels), Backend.POSTGRES)]

    async def spend(self, nonce: bytes, *, lasts_s: float) -> bool:
        self.asked.append("nonce")
        is_first = nonce not in self.spent
        self.spent.add(nonce)
        return is_first

    def charged(self, cost: int = 10, *, debt_s: int = 0, t_us: int = SECOND_US) -> str:
        limit = gcra.Limit(KEY, gcra.Pace(t_us, 100 * t_us, 1), cost)
        before = gcra.Level(debt_s * SECOND_US, limit.pace)
        token = self.tokens.mint([tokens.charge("api", limit, before)])
        assert token is not None
        return token

    async def refund(self, token: str, cost: int | None = None) -> int:
        refunds = Refunds(policies=self.table, rule=self.rule, tokens=self.tokens, nonces=self)
        return (await refunds.refund(token, cost, owner=None)).refunded


async def test_the_nonce_is_there_before_anything_is_credited() -> None:
    world = World()
    world.breaks = errors.Unavailable("the process ends here")
    token = world.charged()
    with pytest.raises(errors.Unavailable):
        await world.refund(token)
    assert world.asked == ["nonce", "decider"]
    world.breaks = None
    assert await world.refund(token) == 0
    assert world.gifts == []


async def test_what_has_drained_of_a_charge_is_not_credited() -> None:
    """Ten taken behind a debt of 5 s: they drain last, from the fifth second on."""
    for after_s, back in ((0, 10), (5, 10), (6, 9), (14, 1), (15, 0), (80_000, 0)):
        world = World()
        token = world.charged(debt_s=5)
        world.clock.advance(after_s)
        assert await world.refund(token) == back, after_s


async def test_a_clock_behind_the_one_that_signed_credits_no_more_than_the_charge() -> None:
    world = World()
    token = world.charged()
    world.clock.jump(-HOUR_S)
    assert await world.refund(token) == 10
    assert world.gifts[0].wait_us == 10 * SECOND_US


async def test_at_another_pace_the_same_tokens_come_back() -> None:
    """Half a token was left of it: at a tenth of the interval that is not five."""
    world = World(rate="10/s")
    token = world.charged()
    world.clock.advance(9.5)
    assert await world.refund(token) == 0
    world = World(rate="10/s")
    token = world.charged()
    world.clock.advance(6)
    assert await world.refund(token) == 4
    assert world.gifts[0].wait_us == 4 * SECOND_US // 10


async def test_a_token_of_yesterday_has_expired() -> None:
    world = World()
    token = world.charged()
    world.clock.advance(tokens.LIFE_US / SECOND_US + 20)
    with pytest.raises(errors.Invalid) as caught:
        await world.refund(token)
    assert caught.value.flaws[0].pointer == "/token"


async def test_a_quota_is_no_longer_given_what_was_a_buckets() -> None:
    world = World()
    token = world.tokens.mint([Charge("api", KEY, 10, 1, 10 * SECOND_US, window=7)])
    assert token is not None
    assert await world.refund(token) == 0
    assert world.asked == []


@given(st.binary(max_size=300))
def test_nobody_else_makes_a_token(raw: bytes) -> None:
    with pytest.raises(errors.Invalid):
        World().tokens.read(base64.urlsafe_b64encode(raw).decode())


@given(st.data())
def test_a_token_that_was_touched_is_none(data: st.DataObject) -> None:
    world = World()
    token = world.charged()
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(errors.Invalid):
        world.tokens.read(base64.urlsafe_b64encode(bytes(raw)).decode())


def test_a_token_of_another_secret_is_none() -> None:
    world = World()
    with pytest.raises(errors.Invalid):
        Tokens("another", world.now_us).read(world.charged())


def test_no_two_tokens_are_one() -> None:
    world = World()
    nonces = {world.tokens.read(world.charged()).nonce for _ in range(100)}
    assert len(nonces) == 100
    other = Tokens("a secret", world.now_us)
    world.tokens = other
    assert other.read(world.charged()).nonce not in nonces


def test_a_lease_is_the_same_charge_until_its_time_is_over() -> None:
    world = World()
    token = world.charged()
    lease = world.tokens.until(token, world.now_us() + 5 * SECOND_US)
    assert world.tokens.read(lease).nonce == world.tokens.read(token).nonce
    assert not world.tokens.read(lease).is_over
    world.clock.advance(5)
    assert world.tokens.read(lease).is_over


@pytest.mark.parametrize(
    ("key", "is_mine"),
    [
        ("{s:a}:api", True),
        ("{s:b}:api", False),
        ("{s:a}x}:api", False),
        ("{u:k}:api-key", True),
        ("{u:a}:api-key", False),
        ("{n:a}:sms-sender", False),
        ("{i:192.0.2.1}:api-ip", True),
        ("{s:a}:daily:1d@America/Los_Angeles", True),
    ],
)
def test_what_a_shops_key_may_move(key: str, is_mine: bool) -> None:
    assert is_of(key, Owner("a", "k")) is is_mine
    assert is_of(key, None)


@given(st.floats(0.00001, 10_000))
def test_a_learned_rate_is_never_faster_than_said(per_s: float) -> None:
    said = observing.rate_text(per_s)
    assert PolicyPut.model_validate_json(f'{{"key": "shop", "rate": "{said}", "burst": 1}}')
    t_us = policy.interval_us(said)
    assert t_us >= 1_000_000 / per_s * (1 - 1e-9)
    assert t_us <= 1_000_000 / per_s * 1.11 + 1
