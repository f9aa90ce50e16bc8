"""What the handlers of settings share: who is asking, preconditions, names in paths."""

import re

from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.clock import rfc3339
from chassis.web import body
from chassis.web.app import CALLER
from ratelimit_service.core.configuration import Expected, Setting

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_ETAG = re.compile(r'"(\d{1,18})"')
MAX_SHOP = 255


def author(request: web.Request) -> str:
    """Who changes something. Limits are the whole app's, so a key of one shop may not even look."""
    caller = request[CALLER]
    if caller.shop is not None:
        raise errors.Denied("the settings of limits are not of one shop", code="other_shop")
    return caller.key_id or f"service:{caller.service}"


def expected(request: web.Request) -> Expected:
    """If-Match or If-None-Match."""
    match = _single(request, "If-Match")
    none_match = _single(request, "If-None-Match")
    if match is not None and none_match is not None:
        raise errors.Invalid("If-Match and If-None-Match exclude each other")
    if none_match is not None:
        if none_match != "*":
            raise errors.Invalid("If-None-Match must be *")
        return Expected(exists=False)
    if match is None:
        return Expected()
    if match == "*":
        return Expected(exists=True)
    found = _ETAG.fullmatch(match)
    if found is None:
        raise errors.Invalid('If-Match must be * or one ETag, such as "17"')
    return Expected(version=int(found[1]))


def etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}


def name(request: web.Request, part: str, code: str = "not_found") -> str:
    found = request.match_info[part]
    if _NAME.fullmatch(found) is None:
        raise errors.NotFound("there is nothing of this name", code=code)
    return found


def shop(request: web.Request) -> str:
    return shop_key(request.match_info["shop"])


def shop_key(text: str) -> str:
    """Shops are lower-cased wherever they are a key."""
    found = text.strip().lower()
    if not found or len(found) > MAX_SHOP or not found.isprintable():
        raise errors.NotFound("this is no shop")
    return found


def answer(setting: Setting, document: dict[str, object]) -> web.Response:
    document = document | {"version": setting.version, "updated_at": rfc3339(setting.updated_at)}
    return body.respond(document, headers=etag(setting.version))


def _single(request: web.Request, header: str) -> str | None:
    given = request.headers.getall(header, [])
    if len(given) > 1:
        raise errors.Invalid(f"{header} is given twice")
    return given[0].strip() if given else None
