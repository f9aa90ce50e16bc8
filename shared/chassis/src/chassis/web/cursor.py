"""Lists: keyset pages under an opaque cursor, announced in `next_cursor` and in `Link`."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web

from chassis.kernel import errors
from chassis.web import body

MAX_LIMIT = 200
DEFAULT_LIMIT = 50


def encode(position: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(position))).rstrip(b"=").decode()


def decode(cursor: str | None, *, parts: int) -> list[Any] | None:
    """The position a cursor stands for, None for the first page; a cursor not of ours is 422."""
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position = orjson.loads(raw)
        body.screen(position)
    except (binascii.Error, ValueError, errors.Invalid):
        position = None
    if not isinstance(position, list) or len(position) != parts:
        raise errors.Invalid("not a cursor of ours", flaws=[errors.Flaw("/cursor", "not a cursor")])
    return position


def page(
    request: web.Request, items: Sequence[Any], next_cursor: str | None, **headers: str
) -> web.Response:
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    if next_cursor is not None:
        query = {**request.query, "cursor": next_cursor}
        said["Link"] = f'<{request.rel_url.with_query(query)}>; rel="next"'
    return body.respond({"items": list(items), "next_cursor": next_cursor}, headers=said)
