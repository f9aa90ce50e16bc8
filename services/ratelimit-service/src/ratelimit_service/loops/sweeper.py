"""Removes buckets that are full: an absent one means the same."""

from typing import Protocol

from chassis.lifecycle import Loop


class Sweepable(Protocol):
    async def sweep(self) -> None: ...


class Sweeper(Loop):
    name = "sweeper"
    interval_s = 30.0

    def __init__(self, buckets: Sweepable) -> None:
        super().__init__()
        self._buckets = buckets

    async def run_once(self) -> bool:
        await self._buckets.sweep()
        return False
