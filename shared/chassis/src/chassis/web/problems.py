"""RFC 9457 problem documents: the one place where a kind of failure becomes an HTTP answer."""

import json
import math
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web

from chassis.kernel import errors
from chassis.web import trace

CONTENT_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:mainstay:problem:"

# What every document has; the rest is a kind's own.
OWN = frozenset({"type", "title", "status", "detail", "code", "trace_id", "retryable", "errors"})

# Most specific first: the first kind that matches decides.
_STATUS: tuple[tuple[type[errors.Fault], int], ...] = (
    (errors.Malformed, 400),
    (errors.Unauthenticated, 401),
    (errors.Denied, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.Outdated, 412),
    (errors.TooLarge, 413),
    (errors.Unsupported, 415),
    (errors.Invalid, 422),
    (errors.Limited, 429),
    (errors.Upstream, 502),
    (errors.Unavailable, 503),
    (errors.Late, 504),
    (errors.Fault, 500),
)
# A 502 between services is a proxy's word, not the service's: `raise_for` reads it as any 5xx.
_BY_STATUS = {status: kind for kind, status in _STATUS if kind is not errors.Upstream}
_CODES = {404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}


def status_of(fault: errors.Fault) -> int:
    return next(status for kind, status in _STATUS if isinstance(fault, kind))


def document(
    *,
    status: int,
    code: str,
    detail: str = "",
    retryable: bool = False,
    flaws: tuple[errors.Flaw, ...] = (),
) -> dict[str, Any]:
    return {
        "type": TYPE_PREFIX + code,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "trace_id": trace.current().trace_id,
        "retryable": retryable,
        "errors": [{"pointer": flaw.pointer, "detail": flaw.detail} for flaw in flaws],
    }


def response(fault: errors.Fault) -> web.Response:
    status = status_of(fault)
    headers = dict(fault.headers)
    if fault.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(fault.retry_after_s)))
    elif status == 503:
        headers["Retry-After"] = "1"
    if status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    body = document(
        status=status,
        code=fault.code,
        detail=fault.detail,
        retryable=fault.retryable,
        flaws=fault.flaws,
    )
    return _answer(fault.members | body, headers)


def from_framework(error: web.HTTPException) -> web.Response:
    """The framework's own refusals, in our words."""
    code = _CODES.get(error.status, "malformed" if error.status < 500 else "internal_error")
    headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    detail = {
        404: "there is nothing at this path",
        405: "this path does not take this method",
        413: "the body is larger than this path takes",
    }.get(error.status, error.reason)
    return _answer(document(status=error.status, code=code, detail=detail), headers)


def raise_for(status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Turn another service's refusal back into the fault it was."""
    if status < 400:
        return
    given = _read(body)
    kind = _BY_STATUS.get(status, errors.Unavailable if status >= 500 else errors.Invalid)
    code = given.get("code")
    if code == errors.Ambiguous.code:
        kind = errors.Ambiguous
    retry_after = headers.get("Retry-After", "")
    raise kind(
        str(given.get("detail", f"upstream answered {status}")),
        code=code if isinstance(code, str) else None,
        flaws=_flaws(given.get("errors")),
        retry_after_s=float(retry_after) if re.fullmatch("[0-9]{1,9}", retry_after) else None,
        members={
            name: value
            for name, value in given.items()
            if name not in OWN and isinstance(value, str)
        },
    )


def _read(body: bytes) -> dict[str, Any]:
    """The document; whatever else stands in our way says no more than its status."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return given if isinstance(given, dict) else {}


def _flaws(told: object) -> list[errors.Flaw]:
    listed = told if isinstance(told, list) else []
    return [
        errors.Flaw(str(one.get("pointer", "")), str(one.get("detail", "")))
        for one in listed
        if isinstance(one, dict)
    ]


def _answer(body: dict[str, Any], headers: dict[str, str]) -> web.Response:
    try:
        said = orjson.dumps(body)
    except TypeError:
        # Half a surrogate pair out of the caller's own words: only escapes can carry it.
        said = json.dumps(body).encode()
    return web.Response(
        status=body["status"], body=said, content_type=CONTENT_TYPE, headers=headers
    )
