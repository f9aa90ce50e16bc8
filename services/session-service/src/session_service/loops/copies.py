"""Tells Redis of deletions that it missed."""

from chassis import lifecycle
from session_service.core.ports import Copies


class CopiesLoop(lifecycle.Loop):
    name = "session_copies"
    interval_s = 1.0

    def __init__(self, copies: Copies) -> None:
        super().__init__()
        self._copies = copies

    async def run_once(self) -> bool:
        await self._copies.settle()
        return False
