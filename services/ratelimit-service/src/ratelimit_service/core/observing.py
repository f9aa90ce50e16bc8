"""What an upstream says of its own limit: Shopify's bucket, a carrier's refusal.

It may only raise what we think is spent: calls that are on their way are in our number and not yet
in theirs. What a call did not use after all comes back as a refund. Rate and size are taken over
for policies that learn.
"""

import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from chassis.kernel import errors
from chassis.kernel.values import value
from contracts.ratelimits import Algorithm, KeyKind, Observe, PolicyChange, Subject
from ratelimit_service.core import gcra, policy, resolution, subject
from ratelimit_service.core.adjustments import counted, invalid
from ratelimit_service.core.checks import Decision, State, stood
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.switch import Ruling

Rule = Callable[[Sequence[gcra.Ask]], Awaitable[list[Ruling]]]
OF_SHOPS = (KeyKind.SHOP, KeyKind.SHOP_OR_IP)


@value
class Lesson:
    """What was learned of a shop's limit under a policy. A change of either is a new version."""

    policy: str
    shop: str
    rate: str | None
    burst: int | None
    version: int

    @property
    def change(self) -> PolicyChange:
        return PolicyChange(rate=self.rate, burst=self.burst)


class LessonStore(Protocol):
    """All raise Unavailable."""

    async def keep(self, *, policy: str, shop: str, rate: str | None, burst: int | None) -> Lesson:
        """What is None stays as it was. Equal to what is known, it is no new version."""
        ...

    async def since(self, version: int, *, limit: int) -> Sequence[Lesson]:
        """In order of their versions, those that are newer."""
        ...


class Observing:
    def __init__(
        self,
        *,
        policies: PolicyTable,
        rule: Rule,
        state: Callable[[], State],
        lessons: LessonStore,
    ) -> None:
        self._policies = policies
        self._rule = rule
        self._state = state
        self._lessons = lessons

    async def observe(self, asked: Observe) -> Decision:
        """At most what the upstream said is left is left; nothing passes before its
        `retry_after_ms`, as far as ten minutes. Raises NotFound, Invalid, Unavailable; when only
        the learning fails, what can be raised is raised all the same."""
        who = Subject(shop=asked.shop)
        found = counted(self._policies, asked.policy, who)
        if found.spec.algorithm is not Algorithm.GCRA or found.spec.key not in OF_SHOPS:
            raise invalid("/policy", f"{found.id} has no bucket for each shop")
        change = _lesson(found, asked) if found.spec.learn else None
        try:
            if change is not None:
                found = await self._learn(found, asked.shop, change)
        finally:
            decision = await self._raise(found, who, asked)
        return decision

    async def _learn(self, found: Policy, shop: str, change: PolicyChange) -> Policy:
        kept = await self._lessons.keep(
            policy=found.id, shop=shop, rate=change.rate, burst=change.burst
        )
        self._policies.learn(kept.policy, kept.shop, kept.change, version=kept.version)
        return self._policies.find(found.id, Subject(shop=shop)) or found

    async def _raise(self, found: Policy, who: Subject, asked: Observe) -> Decision:
        key, now_us = subject.key(who, found.spec.key, found.key_name), time.time_ns() // 1000
        limits = tuple(
            found.limit(key, tokens, now_us, op=gcra.Op.RAISE, wait_us=wait_us)
            for tokens, wait_us in _floors(asked, found.pace.burst)
        )
        [ruling] = await self._rule([gcra.Ask(limits)])
        return stood(found, limits[-1], ruling, self._state())


class Lessons:
    """Keeps what all replicas have learned in the table of policies."""

    PAGE = 2000

    def __init__(self, *, store: LessonStore, policies: PolicyTable) -> None:
        self._store = store
        self._policies = policies
        self._seen = 0

    async def read_on(self) -> None:
        """Raises Unavailable; then the next reading goes on from there."""
        while True:
            found = await self._store.since(self._seen, limit=self.PAGE)
            for each in found:
                self._policies.learn(each.policy, each.shop, each.change, version=each.version)
                self._seen = each.version
            if len(found) < self.PAGE:
                return


def _floors(asked: Observe, burst: int) -> Iterable[tuple[int, int]]:
    """Tokens that are spent at least, and a time beside them. The first always is."""
    left = burst if asked.available is None else int(asked.available)
    yield max(0, burst - left), -asked.age_ms * 1000
    if asked.retry_after_ms is not None:
        yield burst - 1, (asked.retry_after_ms - asked.age_ms) * 1000


def _lesson(found: Policy, asked: Observe) -> PolicyChange | None:
    """What differs from what holds. Raises Invalid for what cannot be counted."""
    rate = None if asked.restore_rate is None else rate_text(asked.restore_rate)
    burst = None if asked.maximum is None else int(asked.maximum)
    said = PolicyChange(
        rate=rate if rate != found.spec.rate else None,
        burst=burst if burst != found.spec.burst else None,
    )
    if said.rate is None and said.burst is None:
        return None
    try:
        policy.pace(resolution.merged(found.spec, [said]))
    except errors.Invalid as fault:
        pointer = "/restore_rate" if fault.flaws[0].pointer == "/rate" else "/maximum"
        raise invalid(pointer, fault.flaws[0].detail) from None
    return said


def rate_text(per_s: float) -> str:
    """As policies write it, never faster than said. Raises Invalid for a rate too slow to tell."""
    if per_s == int(per_s):
        return f"{int(per_s)}/s"
    for period_s in (1000, 100_000):
        count = math.floor(per_s * period_s)
        if count >= period_s // 100 and count < 1_000_000_000:
            return f"{count}/{period_s}s"
    seconds = math.ceil(1 / per_s)
    if seconds > 999_999:
        raise invalid("/restore_rate", "slower than one in 999999 s")
    return f"1/{seconds}s"
