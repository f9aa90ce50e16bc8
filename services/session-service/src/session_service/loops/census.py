"""Tells once a minute how many sessions need somebody's attention. Every replica tells the same."""

from dataclasses import asdict

from chassis import lifecycle
from session_service import metrics
from session_service.core.census import CensusStore


class CensusLoop(lifecycle.Loop):
    name = "session_census"
    interval_s = 60.0

    def __init__(self, store: CensusStore, *, key_id: str) -> None:
        super().__init__()
        self._store = store
        self._key_id = key_id

    async def run_once(self) -> bool:
        counted = asdict(await self._store.take(self._key_id))
        cleaned_up_at = counted.pop("cleaned_up_at")
        if cleaned_up_at is not None:
            metrics.CLEANUP_FINISHED.set(cleaned_up_at)
        for kind, count in counted.items():
            metrics.SESSIONS.labels(kind).set(count)
        return False
