"""What a deployment can answer instead of what was asked for.

ApiError
├── Unauthenticated   no key, or one it does not know            401
├── Denied            the key may not do this                    403
├── NotFound          no such thing                              404
├── Conflict          the thing is in another state              409
├── Outdated          somebody changed it since it was read        412
├── Invalid           the request is wrong; `errors` says where  400 413 415 422
├── Limited           too many for now                           429
└── Unavailable       not now, or no answer at all               5xx, status 0
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mainstay.flaws import Flaw


class ApiError(Exception):
    """`status` is 0 when no answer came. `code` is stable, `detail` is for people, `members` are
    the rest of the problem document."""

    def __init__(
        self,
        detail: str,
        *,
        status: int = 0,
        code: str = "",
        errors: tuple[Flaw, ...] = (),
        retry_after_s: float | None = None,
        trace_id: str | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.errors = errors
        self.retry_after_s = retry_after_s
        self.trace_id = trace_id
        self.members = dict(members or {})

    def __str__(self) -> str:
        where = "; ".join(map(str, self.errors))
        told = f"{self.detail} ({where})" if where else self.detail
        return f"{self.status or 'no answer'} {self.code}: {told}"


class Unauthenticated(ApiError):
    pass


class Denied(ApiError):
    pass


class NotFound(ApiError):
    pass


class Conflict(ApiError):
    pass


class Outdated(ApiError):
    pass


class Invalid(ApiError):
    pass


class Limited(ApiError):
    pass


class Unavailable(ApiError):
    pass


_NAMED = frozenset({"type", "title", "status", "detail", "code", "errors", "trace_id"})
_KINDS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthenticated,
    403: Denied,
    404: NotFound,
    409: Conflict,
    412: Outdated,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: Limited,
}


def from_answer(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error an answer stands for; one that is no problem document still has a status."""
    document = _problem(body)
    kind = _KINDS.get(status, Unavailable if status >= 500 else ApiError)
    return kind(
        str(document.get("detail") or document.get("title") or "no reason was given"),
        status=status,
        code=str(document.get("code") or f"http_{status}"),
        errors=_flaws(document.get("errors")),
        retry_after_s=retry_after_s(headers.get("Retry-After")),
        trace_id=str(document["trace_id"]) if document.get("trace_id") else None,
        members={name: value for name, value in document.items() if name not in _NAMED},
    )


def retry_after_s(value: str | None) -> float | None:
    """Seconds from a Retry-After header: a number or an HTTP date; None for anything else."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _problem(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _flaws(said: object) -> tuple[Flaw, ...]:
    if not isinstance(said, list):
        return ()
    return tuple(
        Flaw(str(one.get("pointer", "")), str(one.get("detail", "")))
        for one in said
        if isinstance(one, dict)
    )
