"""Looks every minute whether the hourly cleanup is ours to do."""

from chassis import lifecycle, logs
from session_service import metrics
from session_service.core.cleanup import Cleanup

log = logs.get(__name__)


class CleanupLoop(lifecycle.Loop):
    name = "session_cleanup"
    interval_s = 60.0

    def __init__(self, cleanup: Cleanup) -> None:
        super().__init__()
        self._cleanup = cleanup

    async def run_once(self) -> bool:
        removed = await self._cleanup.when_due()
        if removed is not None:
            metrics.CLEANUP_DELETED.inc(removed)
            log.info("sessions_cleaned_up", removed=removed)
        return False
