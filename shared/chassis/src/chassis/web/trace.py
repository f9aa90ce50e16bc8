"""W3C trace context: taken from the caller or begun here, passed on with every call out."""

import random
import re
from contextvars import ContextVar

from chassis.kernel.values import value

# Version ff and ids of zeros are invalid.
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0+-)([0-9a-f]{32})-(?!0+-)[0-9a-f]{16}-([0-9a-f]{2})")


@value
class Trace:
    trace_id: str
    span_id: str
    flags: str = "00"

    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def begin(traceparent: str | None = None) -> Trace:
    """Continue the caller's trace, or start one; becomes current for this task."""
    match = _FORM.fullmatch(traceparent) if traceparent else None
    if match is not None:
        trace = Trace(match[1], _new_id(64), match[2])
    else:
        made = _new_id(192)
        trace = Trace(made[:32], made[32:])
    _current.set(trace)
    return trace


def _new_id(bits: int) -> str:
    """Told apart, never a secret: no entropy of the system is spent on it."""
    return f"{random.getrandbits(bits):0{bits // 4}x}"


def forget() -> None:
    """What follows is of nobody's request."""
    _current.set(None)


def current() -> Trace:
    return _current.get() or begin()
