"""Reads what other replicas have learned: at a hint, and every few seconds because hints get
lost."""

from chassis.lifecycle import Loop
from ratelimit_service.core.observing import Lessons


class LearnedRefresh(Loop):
    """What one replica learns all know within 6 s."""

    name = "learned_refresh"
    interval_s = 5.0
    jitter = 0.1

    def __init__(self, lessons: Lessons) -> None:
        super().__init__()
        self._lessons = lessons

    async def run_once(self) -> bool:
        await self._lessons.read_on()
        return False
