"""What differs for the shops of a plan, and which plan a shop is on."""

from typing import Any

from aiohttp import web

from chassis.kernel.clock import rfc3339
from chassis.web import body, cursor
from contracts.ratelimits import PlanPut, PolicyQuery, ShopPlan
from ratelimit_service.api import keys, parts
from ratelimit_service.core.configuration import Setting, document, known


async def list_plans(request: web.Request) -> web.Response:
    parts.author(request)
    query = body.read_query(request, PolicyQuery)
    position = cursor.decode(query.cursor, parts=1) or [""]
    found = await request.app[keys.PLANS].page(after=str(position[0]), limit=query.limit + 1)
    page = found[: query.limit]
    more = cursor.encode([page[-1].place.name]) if len(found) > len(page) else None
    return cursor.page(request, [_plan(each) for each in page], more)


async def get_plan(request: web.Request) -> web.Response:
    parts.author(request)
    found = await request.app[keys.PLANS].get(parts.name(request, "id"))
    return body.respond(_plan(found), headers=parts.etag(found.version))


async def put_plan(request: web.Request) -> web.Response:
    author, expected = parts.author(request), parts.expected(request)
    identifier = parts.name(request, "id")
    said = await body.read_json(request, PlanPut)
    plans = request.app[keys.PLANS]
    found = await plans.put(identifier, said, author=author, expected=expected)
    return body.respond(_plan(found), headers=parts.etag(found.version))


async def delete_plan(request: web.Request) -> web.Response:
    author, expected = parts.author(request), parts.expected(request)
    await request.app[keys.PLANS].delete(
        parts.name(request, "id"), author=author, expected=expected
    )
    return web.Response(status=204)


async def get_shop_plan(request: web.Request) -> web.Response:
    parts.author(request)
    found = await request.app[keys.PLANS].get_of(parts.shop(request))
    return body.respond(_of_shop(found), headers=parts.etag(found.version))


async def put_shop_plan(request: web.Request) -> web.Response:
    author, expected = parts.author(request), parts.expected(request)
    shop = parts.shop(request)
    said = await body.read_json(request, ShopPlan)
    plans = request.app[keys.PLANS]
    found = await plans.put_of(shop, said, author=author, expected=expected)
    return body.respond(_of_shop(found), headers=parts.etag(found.version))


async def delete_shop_plan(request: web.Request) -> web.Response:
    author, expected = parts.author(request), parts.expected(request)
    await request.app[keys.PLANS].delete_of(parts.shop(request), author=author, expected=expected)
    return web.Response(status=204)


def _plan(setting: Setting) -> dict[str, Any]:
    said = known(setting)
    assert isinstance(said, PlanPut)
    return {
        "id": setting.place.name,
        "version": setting.version,
        "policies": {name: document(change) for name, change in said.policies.items()},
        "updated_at": rfc3339(setting.updated_at),
    }


def _of_shop(setting: Setting) -> dict[str, Any]:
    said = known(setting)
    assert isinstance(said, ShopPlan)
    return {
        "shop": setting.place.scope,
        "plan": said.plan,
        "version": setting.version,
        "updated_at": rfc3339(setting.updated_at),
    }
