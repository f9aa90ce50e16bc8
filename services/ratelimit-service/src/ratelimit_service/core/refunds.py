"""Giving a charge back, once.

The nonce is in Postgres, durably, before anything is credited: whoever dies in between has refused
a little too much, and nobody is credited twice. No more comes back than is still there of the
charge: what has drained is somebody else's by now.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from chassis.kernel import errors
from chassis.kernel.values import value
from contracts.ratelimits import Backend
from ratelimit_service.core import gcra, subject
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.subject import Owner
from ratelimit_service.core.switch import Ruling
from ratelimit_service.core.tokens import Charge, Charged, Tokens

Rule = Callable[[Sequence[gcra.Ask]], Awaitable[list[Ruling]]]
# Clocks of replicas differ: a nonce is kept for a while after its charge is gone.
SLACK_US = 60_000_000


class Nonces(Protocol):
    async def spend(self, nonce: bytes, *, lasts_s: float) -> bool:
        """True for the first who comes with it. Raises Unavailable."""
        ...


@value
class Refund:
    """`backend` None: there was nothing to give back, and no store was asked."""

    refunded: int
    backend: Backend | None


NOTHING = Refund(0, None)


class Refunds:
    def __init__(
        self, *, policies: PolicyTable, rule: Rule, tokens: Tokens, nonces: Nonces
    ) -> None:
        self._policies = policies
        self._rule = rule
        self._tokens = tokens
        self._nonces = nonces

    async def refund(self, token: str, cost: int | None, *, owner: Owner | None) -> Refund:
        """How many tokens came back, of the policy where it was most; a part of one counts as one.
        A part of a charge uses the token up. Raises Invalid for a token that is not ours, Denied
        for one of another owner's limits, Unavailable."""
        charged = self._tokens.read(token)
        if not all(subject.is_of(each.key, owner) for each in charged.charges):
            raise errors.Denied("the token is of another shop's limits", code="other_shop")
        gifts = () if charged.is_over else tuple(self._gifts(charged, cost))
        if not gifts:
            return NOTHING
        lasts_s = (charged.lasts_us + SLACK_US) / 1_000_000
        if not await self._nonces.spend(charged.nonce, lasts_s=lasts_s):
            return NOTHING
        [ruling] = await self._rule([gcra.Ask(gifts)])
        came_back = map(_came_back, gifts, ruling.verdict.levels)
        return Refund(max(came_back), ruling.backend)

    def _gifts(self, charged: Charged, cost: int | None) -> Iterable[gcra.Limit]:
        now_us = time.time_ns() // 1000
        for each in charged.charges:
            gift = self._gift(each, charged.age_us, cost, now_us)
            if gift is not None:
                yield gift

    def _gift(self, of: Charge, age_us: int, cost: int | None, now_us: int) -> gcra.Limit | None:
        """None for a charge of which nothing is left, or whose policy counts otherwise by now."""
        policy = self._policies.find(of.policy, subject.shop_of(of.key))
        left_us = of.lasts_us - age_us
        if policy is None or left_us <= 0 or not of.key.endswith(f"}}:{policy.key_name}"):
            return None
        if (of.window is None) != (policy.calendar is None):
            return None
        tokens = of.cost if cost is None else min(cost, of.cost)
        within = left_us if of.window is None else of.window
        if of.window is None and of.t_us != policy.pace.t_us:
            # At another pace the same number of tokens is another time.
            tokens = min(tokens, left_us // of.t_us)
            within = tokens * policy.pace.t_us
        if not tokens:
            return None
        return policy.limit(of.key, tokens, now_us, op=gcra.Op.GIVE, wait_us=within)


def _came_back(gift: gcra.Limit, before: gcra.Level) -> int:
    return -((before.after(gift).debt_us - before.debt_us) // before.pace.t_us)
