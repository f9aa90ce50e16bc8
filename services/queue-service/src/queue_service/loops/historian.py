"""The days of history: made ahead of time, dropped when their time is over."""

from chassis import lifecycle, logs
from queue_service import metrics
from queue_service.core.leasing import Days

log = logs.get(__name__)

DONE = "queue_job_done"
FAILED = "queue_job_failed"
DAYS_AHEAD = 3
KEYS_CHUNK = 5000
JOBS_CHUNK = 1000
CHUNKS = 20


class Historian(lifecycle.Loop):
    name = "historian"
    interval_s = 60.0

    def __init__(self, store: Days, *, completed_d: int, failed_d: int) -> None:
        super().__init__()
        self._store = store
        self._kept_d = {DONE: completed_d, FAILED: failed_d}

    async def run_once(self) -> bool:
        for parent, kept_d in self._kept_d.items():
            for ahead in range(DAYS_AHEAD + 1):
                await self._store.keep_day(parent, days_ahead=ahead)
            dropped = await self._store.drop_days(parent, older_than_d=kept_d)
            if dropped:
                log.info("history_days_dropped", table=parent, days=dropped)
        metrics.HISTORY_OVERFLOW.set(await self._store.overflowing())
        longest_d = max(self._kept_d.values())
        forgotten = await self._store.forget_keys(older_than_d=longest_d, limit=KEYS_CHUNK)
        left = await self._store.forget_leavings(older_than_d=longest_d, limit=KEYS_CHUNK)
        return await self._forget() or forgotten == KEYS_CHUNK or left >= KEYS_CHUNK

    async def _forget(self) -> bool:
        for _ in range(CHUNKS):
            if not await self._store.forget_history(JOBS_CHUNK):
                return False
        return True
