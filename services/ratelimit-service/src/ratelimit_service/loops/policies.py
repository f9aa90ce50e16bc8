"""Reads what operators have set: at a hint, and every few seconds because hints get lost."""

from collections.abc import Awaitable, Callable

from chassis import logs
from chassis.lifecycle import Loop
from ratelimit_service import metrics
from ratelimit_service.core.configuration import Place
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.reading import Reading

log = logs.get(__name__)


class PolicyRefresh(Loop):
    """`seed` runs once, before the first reading. A change is seen within 6 s."""

    name = "policy_refresh"
    interval_s = 5.0
    jitter = 0.1

    def __init__(
        self, reading: Reading, table: PolicyTable, *, seed: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__()
        self._reading = reading
        self._table = table
        self._seed: Callable[[], Awaitable[None]] | None = seed

    def hint(self, payload: str) -> None:
        """Without a payload hints may have been missed, and the server be another one."""
        if not payload and self._table.loaded:
            self._reading.begin_anew()
        self.wake()

    async def run_once(self) -> bool:
        if self._seed is not None:
            await self._seed()
            self._seed = None
        try:
            await self._reading.run()
        finally:
            metrics.CONFIGURATION_UNREADABLE.set(len(self._reading.flawed))
        metrics.POLICIES_LOADED.set(1)
        metrics.show_configuration(policies=len(self._table.all()), overrides=self._table.overrides)
        return False


def say_unreadable(place: Place, why: str) -> None:
    """A policy's name is no secret; a shop's stays out of the log."""
    name = place.name if not place.scope else None
    log.error("setting_unreadable", kind=place.kind, name=name, why=why)
