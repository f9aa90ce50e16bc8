"""Who may nothing, and who is never counted."""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from chassis.kernel import errors
from chassis.web import body
from contracts.ratelimits import ListKind, ListPut
from ratelimit_service.api import keys, parts
from ratelimit_service.core.configuration import Setting, document, known


async def get_list(request: web.Request) -> web.Response:
    parts.author(request)
    kind = _kind(request)
    return _answer(kind, await request.app[keys.LISTS].get(kind))


async def put_list(request: web.Request) -> web.Response:
    author, expected = parts.author(request), parts.expected(request)
    kind = _kind(request)
    said = await body.read_json(request, ListPut)
    lists = request.app[keys.LISTS]
    return _answer(kind, await lists.put(kind, said, author=author, expected=expected))


async def delete_list(request: web.Request) -> web.Response:
    author, expected = parts.author(request), parts.expected(request)
    await request.app[keys.LISTS].clear(_kind(request), author=author, expected=expected)
    return web.Response(status=204)


def _answer(kind: ListKind, setting: Setting | None) -> web.Response:
    """Without those whose time is over. One that was never put has the version 0."""
    items: list[Any] = []
    version = 0
    if setting is not None:
        said, version = known(setting), setting.version
        assert isinstance(said, ListPut)
        now = datetime.now(UTC)
        items = [
            document(each)
            for each in said.items
            if each.expires_at is None or now < each.expires_at
        ]
    found = {"kind": kind, "version": version, "items": items}
    return body.respond(found, headers=parts.etag(version))


def _kind(request: web.Request) -> ListKind:
    try:
        return ListKind(request.match_info["kind"])
    except ValueError:
        raise errors.NotFound("the lists are allow and deny") from None
