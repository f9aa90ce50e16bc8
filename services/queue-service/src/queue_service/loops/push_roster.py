"""Which push handlers there are, as the database says it now."""

from collections.abc import Sequence
from typing import Protocol

from chassis import lifecycle
from queue_service.core.handlers import PushHandler
from queue_service.core.push import Registry


class Known(Protocol):
    async def all(self) -> Sequence[PushHandler]: ...


class PushRoster(lifecycle.Loop):
    """Hints make it quick; without one a change is known within the interval."""

    name = "push_roster"
    interval_s = 2.0

    def __init__(self, handlers: Known, registry: Registry) -> None:
        super().__init__()
        self._handlers = handlers
        self._registry = registry

    async def run_once(self) -> bool:
        self._registry.learn(await self._handlers.all())
        return False
