"""A clock moved by hand, in the shape of `chassis.kernel.clock.Clock`."""

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """Stands still until told otherwise."""

    def __init__(self, now: datetime = START) -> None:
        self._now = now.astimezone(UTC)
        self._monotonic = 1_000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Time passes: both clocks move."""
        if seconds < 0:
            raise ValueError("time does not pass backwards; a wall clock can jump()")
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock, forwards or back; no time passes."""
        self._now += timedelta(seconds=seconds)
