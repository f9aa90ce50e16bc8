"""What moves a limit without asking it: penalties, and starting anew."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from chassis.kernel import errors
from contracts.ratelimits import Penalize, Reset, Subject
from ratelimit_service.core import gcra, subject
from ratelimit_service.core.checks import Decision, State, stood
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.switch import Ruling

Rule = Callable[[Sequence[gcra.Ask]], Awaitable[list[Ruling]]]
# A penalty makes nobody wait longer than this beyond a full bucket; of a quota, than one more.
PENALTY_CAP_US = gcra.MAX_WAIT_US


class Resets(Protocol):
    async def record(self, *, author: str, key: str, reason: str | None) -> None:
        """Who made whom begin anew. Raises Unavailable."""
        ...


class Adjustments:
    """Each raises NotFound, Invalid and Unavailable as a check does, and says where the limit
    stands afterwards."""

    def __init__(
        self, *, policies: PolicyTable, rule: Rule, state: Callable[[], State], resets: Resets
    ) -> None:
        self._policies = policies
        self._rule = rule
        self._state = state
        self._resets = resets

    async def penalize(self, asked: Penalize) -> Decision:
        """Takes the cost whether it fits or not, up to a cap. Never lowers what is owed."""
        policy = counted(self._policies, asked.policy, asked.subject)
        cap_us = PENALTY_CAP_US if policy.calendar is None else policy.pace.tau_us
        return await self._move(policy, asked.subject, gcra.Op.PENALIZE, asked.cost, cap_us)

    async def reset(self, asked: Reset, *, author: str) -> Decision:
        """Recorded first, and only then done: nobody begins anew without a trace."""
        policy = counted(self._policies, asked.policy, asked.subject)
        key = subject.key(asked.subject, policy.spec.key, policy.key_name)
        await self._resets.record(author=author, key=key, reason=asked.reason)
        return await self._move(policy, asked.subject, gcra.Op.RESET, 0, 0)

    async def _move(
        self, policy: Policy, who: Subject, op: gcra.Op, cost: int, wait_us: int
    ) -> Decision:
        key = subject.key(who, policy.spec.key, policy.key_name)
        limit = policy.limit(key, cost, time.time_ns() // 1000, op=op, wait_us=wait_us)
        [ruling] = await self._rule([gcra.Ask((limit,))])
        return stood(policy, limit, ruling, self._state())


def counted(policies: PolicyTable, name: str, who: Subject) -> Policy:
    """The policy as it holds for a subject. Raises NotFound; Invalid for one that counts what
    runs."""
    policy = policies.find(name, who)
    if policy is None:
        raise unknown(name)
    if policy.is_concurrency:
        raise invalid("/policy", f"{name} limits how many run at once: take a permit")
    return policy


def unknown(name: str) -> errors.NotFound:
    detail = f"there is no policy {name}"
    return errors.NotFound(detail, code="unknown_policy", flaws=[errors.Flaw("/policy", detail)])


def invalid(pointer: str, detail: str) -> errors.Invalid:
    return errors.Invalid(f"{pointer}: {detail}", flaws=[errors.Flaw(pointer, detail)])
