"""Reads the policies again: at a hint, and every few seconds because hints get lost."""

from collections.abc import Awaitable, Callable

from chassis.lifecycle import Loop
from ratelimit_service import metrics
from ratelimit_service.core.policies import Policies


class PolicyRefresh(Loop):
    """`seed` runs once, before the first reading. A change is seen within 6 s."""

    name = "policy_refresh"
    interval_s = 5.0
    jitter = 0.1

    def __init__(self, policies: Policies, *, seed: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._policies = policies
        self._seed: Callable[[], Awaitable[None]] | None = seed

    async def run_once(self) -> bool:
        if self._seed is not None:
            await self._seed()
            self._seed = None
        await self._policies.refresh()
        metrics.POLICIES_LOADED.set(1)
        metrics.show_configuration(policies=self._policies.count)
        return False
