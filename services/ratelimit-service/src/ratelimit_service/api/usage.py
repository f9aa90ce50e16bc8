"""Who asks for how much, and what another policy would have done."""

import pydantic
from aiohttp import web

from chassis.kernel import errors
from chassis.web import body
from chassis.web.app import CALLER
from contracts.ratelimits import Simulate, Subject, Top, TopQuery, UsageQuery
from ratelimit_service.api import keys


async def top(request: web.Request) -> web.Response:
    _whole_app(request)
    query = body.read_query(request, TopQuery)
    return body.respond(Top(items=list(await request.app[keys.REPORTS].top(query))))


async def simulate(request: web.Request) -> web.Response:
    _whole_app(request)
    asked = await body.read_json(request, Simulate)
    return body.respond(await request.app[keys.REPORTS].simulate(request.match_info["id"], asked))


async def of_shop(request: web.Request) -> web.Response:
    shop = _shop(request)
    query = body.read_query(request, UsageQuery)
    usage = await request.app[keys.REPORTS].of_shop(shop, minutes=query.minutes)
    return body.respond(
        {
            "shop": shop,
            "minutes": query.minutes,
            "plan": usage.plan,
            "policies": [each.model_dump(mode="json") for each in usage.counts],
            "limits": [met.document() for each in usage.decisions for met in each.met],
            "backend": usage.backend,
            "degraded": usage.degraded is not None,
        },
        backend=str(usage.backend),
        degraded=usage.degraded,
    )


def _shop(request: web.Request) -> str:
    """A key that is bound to a shop may read its own."""
    try:
        shop = Subject(shop=request.match_info["shop"]).shop
    except pydantic.ValidationError as error:
        raise body.invalid(error) from None
    if request[CALLER].shop not in (None, shop):
        raise errors.Denied("the key belongs to another shop", code="other_shop")
    assert shop is not None
    return shop


def _whole_app(request: web.Request) -> None:
    if request[CALLER].shop is not None:
        raise errors.Denied("this is told of all shops together", code="other_shop")
