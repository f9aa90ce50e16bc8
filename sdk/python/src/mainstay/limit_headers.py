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


def status(decision: Decision) -> int:
    """Of a refusal: 403 for who is on the deny list, no waiting helps him."""
    return 403 if decision.listed == "deny" else 429


def problem(decision: Decision) -> dict[str, Any]:
    """The body of a refusal (RFC 9457)."""
    if status(decision) == 403:
        return _document(403, "Forbidden", "denied_by_list", "on the deny list", retryable=False)
    over = [one.policy for one in decision.limits if one.violated and not one.shadow]
    detail = f"over the limit {', '.join(over)}" if over else "refused"
    retryable = decision.retry_after_ms is not None
    return _document(429, "Too Many Requests", "rate_limited", detail, retryable=retryable)


def unavailable(detail: str) -> dict[str, Any]:
    """The body of a 503: no limiter answered, and this route is closed without one."""
    return _document(503, "Service Unavailable", "unavailable", detail, retryable=True)


def _document(
    status: int, title: str, code: str, detail: str, *, retryable: bool
) -> dict[str, Any]:
    return {
        "type": f"urn:mainstay:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "retryable": retryable,
    }


def _policy(state: LimitState) -> str:
    return f'"{state.policy}";q={state.limit};w={state.window_s}'


def _left(state: LimitState) -> str:
    return f'"{state.policy}";r={state.remaining};t={math.ceil(state.reset_ms / 1000)}'
