"""Since when the limiter has not decided, and when it may again.

One call without an answer is enough to go on alone, so that nobody else waits for it. Who asks
whether it is back is a loop, never a request.
"""

from collections.abc import Callable

# Who falls again this soon after a return has to answer twice as often before the next one.
SOON_S = 10.0
ANSWERS_MAX = 8


class Absence:
    """`began` is called when it begins."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since: float | None = None
        self._ended = float("-inf")
        self._needed = 1
        self._answers = 0
        self.began: Callable[[], None] = lambda: None

    @property
    def is_on(self) -> bool:
        return self._since is not None

    @property
    def lasts_s(self) -> float:
        return 0.0 if self._since is None else self._monotonic() - self._since

    def begin(self) -> None:
        if self._since is not None:
            return
        self._since = now = self._monotonic()
        fell_soon = now - self._ended < SOON_S
        self._needed = min(self._needed * 2, ANSWERS_MAX) if fell_soon else 1
        self._answers = 0
        self.began()

    def answered(self) -> bool:
        """It answers. Often enough to decide again?"""
        self._answers += 1
        return self._answers >= self._needed

    def missed(self) -> None:
        self._answers = 0

    def end(self) -> None:
        self._since = None
        self._ended = self._monotonic()
