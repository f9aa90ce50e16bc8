"""Reading and changing policies."""

from typing import Any

from aiohttp import web

from chassis.web import body, cursor
from contracts.ratelimits import PolicyPut, PolicyQuery
from ratelimit_service.api import keys, parts
from ratelimit_service.core import policy
from ratelimit_service.core.configuration import Setting, known


async def list_policies(request: web.Request) -> web.Response:
    parts.author(request)
    query = body.read_query(request, PolicyQuery)
    position = cursor.decode(query.cursor, parts=1) or [""]
    found = await request.app[keys.POLICIES].page(after=str(position[0]), limit=query.limit + 1)
    page = found[: query.limit]
    more = cursor.encode([page[-1].place.name]) if len(found) > len(page) else None
    return cursor.page(request, [_document(each) for each in page], more)


async def get_policy(request: web.Request) -> web.Response:
    parts.author(request)
    return _answer(await request.app[keys.POLICIES].get(_id(request)))


async def put_policy(request: web.Request) -> web.Response:
    author, identifier, expected = parts.author(request), _id(request), parts.expected(request)
    spec = await body.read_json(request, PolicyPut)
    policies = request.app[keys.POLICIES]
    return _answer(await policies.put(identifier, spec, author=author, expected=expected))


async def delete_policy(request: web.Request) -> web.Response:
    author, identifier, expected = parts.author(request), _id(request), parts.expected(request)
    await request.app[keys.POLICIES].delete(identifier, author=author, expected=expected)
    return web.Response(status=204)


def _answer(setting: Setting) -> web.Response:
    return body.respond(_document(setting), headers=parts.etag(setting.version))


def _document(setting: Setting) -> dict[str, Any]:
    spec = known(setting)
    assert isinstance(spec, PolicyPut)
    return policy.build(
        setting.place.name, version=setting.version, spec=spec, updated_at=setting.updated_at
    ).document()


def _id(request: web.Request) -> str:
    return parts.name(request, "id", "unknown_policy")
