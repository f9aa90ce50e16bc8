"""What a visitor is told of limits: the fields of draft-ietf-httpapi-ratelimit-headers, and the
problem document of a refusal."""

import math
import random
from typing import Any

from mainstay.limits import Decision, LimitState

CONTENT_TYPE = "application/problem+json"
# Those who were refused together should not come back together.
RETRY_JITTER = 0.1


def of(decision: Decision) -> dict[str, str]:
    """`RateLimit-Policy` names each limit, `RateLimit` how much of it is left."""
    counted = [state for state in decision.limits if not state.shadow]
    said = {}
    if counted:
        said["RateLimit-Policy"] = ", ".join(map(_policy, counted))
        said["RateLimit"] = ", ".join(map(_left, counted))
    if decision.degraded:
        said["Degraded"] = f"limits;{decision.backend}"
    if not decision.allowed and decision.retry_after_ms is not None:
        wait_s = decision.retry_after_ms / 1000 * random.uniform(1, 1 + RETRY_JITTER)
        said["Retry-After"] = str(max(1, math.ceil(wait_s)))
    return said


def problem(decision: Decision) -> dict[str, Any]:
    """The body of a 429 (RFC 9457)."""
    over = [one.policy for one in decision.limits if one.violated and not one.shadow]
    return {
        "type": "urn:mainstay:problem:rate_limited",
        "title": "Too Many Requests",
        "status": 429,
        "detail": f"over the limit {', '.join(over)}" if over else "refused",
        "code": "rate_limited",
        "retryable": decision.retry_after_ms is not None,
    }


def unavailable(detail: str) -> dict[str, Any]:
    """The body of a 503: no limiter answered, and this route is closed without one."""
    return {
        "type": "urn:mainstay:problem:unavailable",
        "title": "Service Unavailable",
        "status": 503,
        "detail": detail,
        "code": "unavailable",
        "retryable": True,
    }


def _policy(state: LimitState) -> str:
    return f'"{state.policy}";q={state.limit};w={state.window_s}'


def _left(state: LimitState) -> str:
    return f'"{state.policy}";r={state.remaining};t={math.ceil(state.reset_ms / 1000)}'
