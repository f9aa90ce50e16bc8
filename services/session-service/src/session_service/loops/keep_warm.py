"""Looks every minute whether this hour's share of idle shops is ours to keep warm."""

from chassis import lifecycle, logs
from session_service.core.warming import Warming

log = logs.get(__name__)


class KeepWarmLoop(lifecycle.Loop):
    name = "session_keep_warm"
    interval_s = 60.0

    def __init__(self, warming: Warming) -> None:
        super().__init__()
        self._warming = warming

    async def run_once(self) -> bool:
        renewed = await self._warming.when_due()
        if renewed:
            log.info("sessions_kept_warm", renewed=renewed)
        return False
