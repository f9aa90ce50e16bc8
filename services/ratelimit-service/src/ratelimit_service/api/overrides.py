"""What differs from a policy for one shop."""

from typing import Any

from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.clock import rfc3339
from chassis.web import body, cursor
from contracts.ratelimits import OverridePut, OverrideQuery
from ratelimit_service.api import keys, parts
from ratelimit_service.core.configuration import Setting, document, known


async def list_overrides(request: web.Request) -> web.Response:
    parts.author(request)
    query = body.read_query(request, OverrideQuery)
    after = cursor.decode(query.cursor, parts=2) or ["", ""]
    if not all(isinstance(part, str) for part in after):
        raise errors.Invalid("not a cursor of ours", flaws=[errors.Flaw("/cursor", "not a cursor")])
    found = await request.app[keys.OVERRIDES].page(
        shop=query.shop, after=(after[0], after[1]), limit=query.limit + 1
    )
    page = found[: query.limit]
    more = None
    if len(found) > len(page):
        more = cursor.encode([page[-1].place.scope, page[-1].place.name])
    return cursor.page(request, [_document(each) for each in page], more)


async def get_override(request: web.Request) -> web.Response:
    parts.author(request)
    return _answer(await request.app[keys.OVERRIDES].get(parts.shop(request), _policy(request)))


async def put_override(request: web.Request) -> web.Response:
    author, expected = parts.author(request), parts.expected(request)
    shop, policy = parts.shop(request), _policy(request)
    said = await body.read_json(request, OverridePut)
    overrides = request.app[keys.OVERRIDES]
    return _answer(await overrides.put(shop, policy, said, author=author, expected=expected))


async def delete_override(request: web.Request) -> web.Response:
    author, expected = parts.author(request), parts.expected(request)
    shop, policy = parts.shop(request), _policy(request)
    await request.app[keys.OVERRIDES].delete(shop, policy, author=author, expected=expected)
    return web.Response(status=204)


def _answer(setting: Setting) -> web.Response:
    return body.respond(_document(setting), headers=parts.etag(setting.version))


def _document(setting: Setting) -> dict[str, Any]:
    said = known(setting)
    assert isinstance(said, OverridePut)
    change = document(said)
    for name in ("reason", "expires_at"):
        change.pop(name, None)
    return {
        "shop": setting.place.scope,
        "policy": setting.place.name,
        "version": setting.version,
        "change": change,
        "reason": said.reason,
        "author": setting.author,
        "expires_at": None if said.expires_at is None else rfc3339(said.expires_at),
        "updated_at": rfc3339(setting.updated_at),
    }


def _policy(request: web.Request) -> str:
    return parts.name(request, "policy", "unknown_policy")
