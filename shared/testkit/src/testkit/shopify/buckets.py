"""A leaky bucket of points, by Shopify's clock."""

from testkit.shopify.clock import Clock


class Bucket:
    """Full at first. `maximum` and `restore_rate` (points per second) may change, as plans do."""

    def __init__(self, clock: Clock, *, maximum: float, restore_rate: float) -> None:
        self.maximum = maximum
        self.restore_rate = restore_rate
        self._clock = clock
        self._left = maximum
        self._at = clock.now()

    @property
    def available(self) -> float:
        now = self._clock.now()
        restored = max(0.0, now - self._at) * self.restore_rate
        self._left, self._at = min(self.maximum, self._left + restored), now
        return self._left

    def take(self, points: float) -> bool:
        """All of them or none."""
        if self.available < points:
            return False
        self._left -= points
        return True

    def give_back(self, points: float) -> None:
        self._left = min(self.maximum, self.available + points)

    def empty(self) -> None:
        """Others of the same app have used it all."""
        self.take(self.available)
