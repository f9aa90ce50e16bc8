"""Reading and changing policies. Limits are the whole app's, so a key of one shop may not."""

import re

from aiohttp import web

from chassis.kernel import errors
from chassis.web import body, cursor
from chassis.web.app import CALLER
from contracts.ratelimits import PolicyPut, PolicyQuery
from ratelimit_service.api import keys
from ratelimit_service.core.policy import Policy

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


async def list_policies(request: web.Request) -> web.Response:
    _whole_app(request)
    query = body.read_query(request, PolicyQuery)
    position = cursor.decode(query.cursor, parts=1) or [""]
    found = await request.app[keys.POLICIES].page(after=str(position[0]), limit=query.limit + 1)
    page = found[: query.limit]
    more = cursor.encode([page[-1].id]) if len(found) > len(page) else None
    return cursor.page(request, [each.document() for each in page], more)


async def get_policy(request: web.Request) -> web.Response:
    _whole_app(request)
    return _answer(await request.app[keys.POLICIES].get(_id(request)))


async def put_policy(request: web.Request) -> web.Response:
    _whole_app(request)
    identifier = _id(request)
    spec = await body.read_json(request, PolicyPut)
    return _answer(await request.app[keys.POLICIES].put(identifier, spec))


async def delete_policy(request: web.Request) -> web.Response:
    _whole_app(request)
    await request.app[keys.POLICIES].delete(_id(request))
    return web.Response(status=204)


def _answer(policy: Policy) -> web.Response:
    return body.respond(policy.document(), headers={"ETag": f'"{policy.version}"'})


def _id(request: web.Request) -> str:
    identifier = request.match_info["id"]
    if _ID.fullmatch(identifier) is None:
        raise errors.NotFound("this is no name of a policy", code="unknown_policy")
    return identifier


def _whole_app(request: web.Request) -> None:
    if request[CALLER].shop is not None:
        raise errors.Denied("policies are not of one shop", code="other_shop")
