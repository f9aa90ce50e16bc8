"""Makes the jobs of schedules when their time has come. Two of these at once make each job once."""

from typing import Protocol

from chassis import lifecycle

SCHEDULES = 50


class Fires(Protocol):
    async def fire(self, *, limit: int) -> int:
        """Make the jobs of so many due schedules at most; how many were due."""
        ...


class Scheduler(lifecycle.Loop):
    name = "scheduler"
    interval_s = 1.0

    def __init__(self, fires: Fires) -> None:
        super().__init__()
        self._fires = fires

    async def run_once(self) -> bool:
        return await self._fires.fire(limit=SCHEDULES) == SCHEDULES
