"""What operators and shops may ask about limits: who was denied, what a shop uses, what a change
would do."""

import asyncio
from collections.abc import Sequence

from chassis.kernel import errors
from chassis.kernel.values import value
from contracts.ratelimits import (
    MAX_POLICIES,
    Backend,
    Check,
    CheckBatch,
    KeyKind,
    ShopCount,
    Simulate,
    Simulation,
    Subject,
    TopQuery,
)
from ratelimit_service.core.checks import Checks, Decision
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.simulation import Simulator, changed
from ratelimit_service.core.usage import UsageStore

# Few enough that checks do not feel the pause between two pages.
PAGE = 200
OF_SHOPS = (KeyKind.SHOP, KeyKind.SHOP_OR_IP)


@value
class ShopUsage:
    """`decisions`: peeks of every policy that counts by shop, a few policies in each."""

    shop: str
    plan: str | None
    counts: Sequence[ShopCount]
    decisions: Sequence[Decision]

    @property
    def backend(self) -> Backend:
        return self.decisions[0].backend if self.decisions else Backend.POSTGRES

    @property
    def degraded(self) -> str | None:
        return next((each.degraded for each in self.decisions if each.degraded), None)


class Reports:
    def __init__(self, *, store: UsageStore, policies: PolicyTable, checks: Checks) -> None:
        self._store = store
        self._policies = policies
        self._checks = checks

    async def top(self, query: TopQuery) -> Sequence[ShopCount]:
        return await self._store.top(by=query.by, minutes=query.minutes, limit=query.limit)

    async def of_shop(self, shop: str, *, minutes: int) -> ShopUsage:
        """Raises Unavailable when the counts or the limits cannot be read."""
        counts = await self._store.of_shop(shop, minutes=minutes)
        return ShopUsage(shop, self._policies.plan_of(shop), counts, await self._peek(shop))

    async def simulate(self, identifier: str, asked: Simulate) -> Simulation:
        """Raises NotFound, and Invalid for a change that cannot be counted."""
        current = self._policies.find(identifier)
        if current is None:
            raise errors.NotFound(f"there is no policy {identifier}", code="unknown_policy")
        simulator = Simulator(changed=changed(current, asked), minutes=asked.minutes)
        since, last = await self._store.began(minutes=asked.minutes), None
        while rows := await self._store.page(identifier, since=since, after=last, limit=PAGE):
            simulator.feed(rows)
            last = rows[-1]
            await asyncio.sleep(0)
        return simulator.answer()

    async def _peek(self, shop: str) -> Sequence[Decision]:
        names = [
            policy.id
            for policy in self._policies.all()
            if policy.spec.key in OF_SHOPS and not policy.is_concurrency
        ]
        if not names:
            return []
        pieces = [names[at : at + MAX_POLICIES] for at in range(0, len(names), MAX_POLICIES)]
        subject = Subject(shop=shop)
        peeks = [Check(subject=subject, policies=piece, mode="peek") for piece in pieces]
        return await self._checks.batch(CheckBatch(items=peeks))
