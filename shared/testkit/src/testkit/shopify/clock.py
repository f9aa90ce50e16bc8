"""Shopify's clock: it runs with ours, and can be set ahead for the rules of hours and months."""

import time
from datetime import UTC, datetime
from email.utils import format_datetime


class Clock:
    """Seconds since 1970. `advance` moves it for good; a negative step is a clock set back."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def now(self) -> float:
        return time.time() + self._ahead_s

    def advance(self, seconds: float) -> None:
        self._ahead_s += seconds

    def http_date(self) -> str:
        """For the header `Date`."""
        return format_datetime(datetime.fromtimestamp(int(self.now()), UTC), usegmt=True)

    def iso(self, *, in_s: float = 0.0) -> str:
        """As in `X-Shopify-Triggered-At`: UTC, to the nanosecond that nobody has measured."""
        return datetime.fromtimestamp(self.now() + in_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
