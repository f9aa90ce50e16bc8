"""Housekeeping of all processes, done by one of them at a time.

The lease row only saves work: every chore may run twice at once and does the same thing once.
"""

import time
from collections.abc import Sequence

from chassis import lifecycle, logs
from chassis.leader import Leader

log = logs.get(__name__)


class Chores(lifecycle.Loop):
    """Runs the passes of loops that only the leader needs to run, each when it is due."""

    name = "chores"
    interval_s = 1.0

    def __init__(self, leader: Leader, chores: Sequence[lifecycle.Loop]) -> None:
        super().__init__()
        self._leader = leader
        self._chores = chores
        self._due = dict.fromkeys((chore.name for chore in chores), 0.0)

    async def run_once(self) -> bool:
        if not await self._leader.leads():
            return False
        return any([await self._pass(chore) for chore in self._chores])

    async def _pass(self, chore: lifecycle.Loop) -> bool:
        """One that fails does not keep the others from their turn."""
        if time.monotonic() < self._due[chore.name]:
            return False
        more = await chore.guarded_pass()
        self._due[chore.name] = 0.0 if more else time.monotonic() + chore.interval_s * 0.9
        return more
