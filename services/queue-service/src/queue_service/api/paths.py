"""What stands in paths and headers: an id or a name that can be none is not found."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

from aiohttp import web

from chassis.kernel import errors, ids
from chassis.kernel.clock import rfc3339
from chassis.web import cursor
from queue_service.api import keys
from queue_service.core.ports import Position

KEY_MAX = 255
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def id_of(request: web.Request) -> UUID:
    identifier = ids.parse_id(request.match_info["id"])
    if identifier is None:
        raise errors.NotFound("there is nothing under this id")
    return identifier


def name_of(request: web.Request) -> str:
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise errors.NotFound("there is nothing under this name")
    return name


def idempotency_key(request: web.Request) -> str | None:
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    if not 1 <= len(given) <= KEY_MAX:
        raise errors.Invalid(f"an Idempotency-Key has 1 to {KEY_MAX} characters")
    if any("\ud800" <= char <= "\udfff" for char in given):
        raise errors.Invalid("an Idempotency-Key must be UTF-8")
    return given


def position(text: str | None) -> Position | None:
    """Where a list that is read newest first goes on."""
    parts = cursor.decode(text, parts=2)
    if parts is None:
        return None
    try:
        at, identifier = datetime.fromisoformat(parts[0]), UUID(parts[1])
        return Position(at.astimezone(), identifier)
    except (TypeError, ValueError, AttributeError, OverflowError):
        flaw = errors.Flaw("/cursor", "not a cursor")
        raise errors.Invalid("not a cursor of ours", flaws=[flaw]) from None


def cursor_of(place: Position | None) -> str | None:
    return cursor.encode([rfc3339(place.created_at), str(place.id)]) if place else None


def page(
    request: web.Request, items: list[dict[str, Any]], next_cursor: str | None
) -> web.Response:
    response = cursor.page(request, items, next_cursor)
    response.headers.update({"Mainstay-Road": keys.ROAD, "Mainstay-Backend": keys.BACKEND})
    return response
