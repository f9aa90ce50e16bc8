"""Reading the parts of a request that no body model describes."""

import re
from urllib.parse import unquote_to_bytes

from aiohttp import web

from chassis.kernel import errors
from chassis.web.app import CALLER, allows
from contracts.sessions import MAX_ID
from session_service.core.record import shop_key
from session_service.core.sessions import Access, Expectation

_ETAG = re.compile(r'"([0-9]{1,18})"')


def access(request: web.Request) -> Access:
    caller = request[CALLER]
    return Access(
        shop=shop_key(caller.shop) if caller.shop is not None else None,
        sees_tokens=allows(caller, "tokens:read"),
    )


def session_id(request: web.Request) -> str:
    return _segment(request, 3)


def shop(request: web.Request) -> str:
    return shop_key(_segment(request, 3))


def _segment(request: web.Request, place: int) -> str:
    """A piece of the path as it was meant: the framework's own decoding leaves some of it coded."""
    text = raw = request.rel_url.raw_path.split("/")[place]
    try:
        if "%" in raw:
            text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        text = "\x00"
    if "\x00" in text or len(text) > MAX_ID:
        raise errors.NotFound("there is nothing at this path")
    return text


def if_match(request: web.Request) -> Expectation | None:
    given = request.headers.get("If-Match")
    if given is None:
        return None
    if given.strip() == "*":
        return Expectation(version=None)
    match = _ETAG.fullmatch(given.strip())
    if match is None:
        raise errors.Invalid('If-Match must be * or one ETag, such as "17"')
    return Expectation(version=int(match[1]))


def etag(version: int) -> str:
    return f'"{version}"'


def require_same_id(request: web.Request, given: str) -> None:
    if given != session_id(request):
        detail = "must be the id in the path"
        raise errors.Invalid(f"/id: {detail}", flaws=[errors.Flaw("/id", detail)])


def cursor_text(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise errors.Invalid("not a cursor of ours", flaws=[errors.Flaw("/cursor", "not a cursor")])
    return value
