"""The time a caller still has, carried through a request as a point on the monotonic clock."""

import time
from contextvars import ContextVar

from chassis.kernel import errors
from chassis.kernel.values import value

HEADER = "Request-Timeout-Ms"
DEFAULT_S = 5.0
HOP_COST_S = 0.005
LEAST_USEFUL_S = 0.02


@value
class Deadline:
    at: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        return cls(time.monotonic() + seconds)

    def remaining_s(self) -> float:
        return self.at - time.monotonic()

    def within(self, budget_s: float) -> float:
        """The smaller of the budget and what is left; raises Late when too little is left."""
        left = self.remaining_s()
        if left < LEAST_USEFUL_S:
            raise errors.Late("the deadline of the request has passed")
        return min(budget_s, left)


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def current() -> Deadline | None:
    return _current.get()


def bind(deadline: Deadline | None) -> None:
    """Set it for the running task and what it starts."""
    _current.set(deadline)


def budget_s(limit_s: float) -> float:
    """`limit_s`, or less when the request being served has less left."""
    deadline = _current.get()
    return limit_s if deadline is None else deadline.within(limit_s)
