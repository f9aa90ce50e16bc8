"""Forgets events that nobody will ask for again."""

from chassis import lifecycle
from gateway.core import ports


class Retention(lifecycle.Loop):
    name = "retention"
    interval_s = 600.0

    def __init__(self, log: ports.EventLog, *, kept_d: float) -> None:
        super().__init__()
        self._log = log
        self._kept_d = kept_d

    async def run_once(self) -> bool:
        return await self._log.forget(days=self._kept_d) > 0
