"""Time as an argument: production passes SystemClock, tests pass one they move by hand."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Wall clock, always aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow; the zero point means nothing."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def rfc3339(moment: datetime) -> str:
    """`2026-11-24T16:20:00.123456Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
