"""Removes what means the same when it is absent: full buckets, permits whose time is over,
nonces of charges that are gone."""

from typing import Protocol

from chassis.lifecycle import Loop


class Sweepable(Protocol):
    async def sweep(self) -> None: ...


class Sweeper(Loop):
    name = "sweeper"
    interval_s = 30.0

    def __init__(self, *stores: Sweepable) -> None:
        super().__init__()
        self._stores = stores

    async def run_once(self) -> bool:
        for store in self._stores:
            await store.sweep()
        return False
