"""What a query costs, and how long its shop's bucket needs to hold so much. No input, no output."""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.1, 30.0
# So that those who wait for one bucket do not come back at once.
JITTER = 0.25
# What a query is thought to cost until it was answered once; the rest is given back.
UNKNOWN_COST, REMEMBERED_COSTS = 50, 2_000


@dataclass(frozen=True, slots=True)
class Throttle:
    """A shop's bucket in points; `restore_rate` comes back a second."""

    available: float
    maximum: float
    restore_rate: float


@dataclass(frozen=True, slots=True)
class Cost:
    """In points; what was not said is None."""

    requested: float | None = None
    actual: float | None = None
    throttle: Throttle | None = None

    @property
    def never_fits(self) -> bool:
        """More than the bucket ever holds."""
        return (
            self.requested is not None
            and self.throttle is not None
            and self.requested > self.throttle.maximum
        )

    def wait_s(self, jitter: float) -> float:
        """Until the bucket holds the cost; `jitter` lies in 0…1."""
        if self.requested is None or self.throttle is None or self.throttle.restore_rate <= 0:
            missing_s = 1.0
        else:
            missing = self.requested - self.throttle.available
            missing_s = missing / self.throttle.restore_rate
        return min(LONGEST_WAIT_S, max(SHORTEST_WAIT_S, missing_s) * (1 + JITTER * jitter))


def cost_of(document: Mapping[str, Any]) -> Cost:
    """What `extensions.cost` of an answer says."""
    said = _within(_within(document, "extensions"), "cost")
    status = _within(said, "throttleStatus")
    bucket = [
        _number(status.get(name))
        for name in ("currentlyAvailable", "maximumAvailable", "restoreRate")
    ]
    known = [value for value in bucket if value is not None]
    return Cost(
        requested=_number(said.get("requestedQueryCost")),
        actual=_number(said.get("actualQueryCost")),
        throttle=Throttle(*known) if len(known) == len(bucket) else None,
    )


class Costs:
    """What queries were asked to pay before, by their text."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, int] = OrderedDict()

    def of(self, query: str) -> int:
        return self._known.get(_digest(query), UNKNOWN_COST)

    def learn(self, query: str, cost: float | None) -> None:
        if cost is None:
            return
        name = _digest(query)
        self._known[name] = max(1, math.ceil(cost))
        self._known.move_to_end(name)
        if len(self._known) > REMEMBERED_COSTS:
            self._known.popitem(last=False)


def _within(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _digest(query: str) -> bytes:
    return hashlib.sha256(query.encode()).digest()
