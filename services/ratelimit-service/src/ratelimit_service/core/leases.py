"""Taking many at once, to be spent elsewhere: one decision for hundreds.

A lease is a charge like any other, so what was not spent goes back as a refund does; one that is
lost costs its tokens, and nothing is given out twice.
"""

from collections.abc import Awaitable, Callable

from chassis.kernel.clock import Clock
from chassis.kernel.values import value
from contracts.ratelimits import Check, LeasePost, Priority
from ratelimit_service.core.adjustments import counted
from ratelimit_service.core.checks import Decision
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.refunds import NOTHING, Refund, Refunds
from ratelimit_service.core.subject import Owner
from ratelimit_service.core.tokens import Tokens

CheckOne = Callable[[Check], Awaitable[Decision]]
# What is left may be less by the time it is asked for.
TRIES = 3


@value
class Leased:
    """`id` None: nothing was granted. `decision` is the last of those that it took."""

    id: str | None
    granted: int
    expires_ms: int
    decision: Decision


class Leases:
    def __init__(
        self,
        *,
        policies: PolicyTable,
        check: CheckOne,
        refunds: Refunds,
        tokens: Tokens,
        clock: Clock,
    ) -> None:
        self._policies = policies
        self._check = check
        self._refunds = refunds
        self._tokens = tokens
        self._clock = clock

    async def take(self, asked: LeasePost) -> Leased:
        """All that is wanted, or what is there, or nothing. Raises as a check does."""
        policy = counted(self._policies, asked.policy, asked.subject)
        want = min(asked.want, policy.pace.burst, policy.spec.max_cost or asked.want)
        for _ in range(TRIES):
            decision = await self._ask(asked, want)
            if decision.allowed:
                return self._leased(asked, decision, want)
            want = min(want - 1, _room(decision))
            if want < 1:
                break
        return self._leased(asked, decision, 0)

    async def give_back(self, identifier: str, unspent: int, *, owner: Owner | None) -> Refund:
        """Once, and only while the lease lasts. Raises as a refund does."""
        if unspent == 0:
            return NOTHING
        return await self._refunds.refund(identifier, unspent, owner=owner)

    def _leased(self, asked: LeasePost, decision: Decision, granted: int) -> Leased:
        expires_ms = int(self._clock.now().timestamp() * 1000) + asked.ttl_ms
        identifier = None
        if granted and decision.token is not None:
            identifier = self._tokens.until(decision.token, expires_ms * 1000)
        return Leased(identifier, granted, expires_ms, decision)

    async def _ask(self, asked: LeasePost, cost: int) -> Decision:
        return await self._check(Check(subject=asked.subject, policies=[asked.policy], cost=cost))


def _room(decision: Decision) -> int:
    """What was there for this priority when it was denied."""
    if not decision.met:
        return 0
    [met] = decision.met
    free_us = met.pace.tau_us - met.policy.floors_us[Priority.DEFAULT] - met.debt_us
    return free_us // met.pace.t_us
