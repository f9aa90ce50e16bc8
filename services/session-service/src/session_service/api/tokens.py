"""Session tokens of Shopify: verified, and exchanged. No answer here may be stored on the way."""

from aiohttp import web

from chassis.kernel.shopify import not_configured
from chassis.web import body
from contracts import sessions as wire
from session_service.api import grants, parts
from session_service.api.keys import EMBEDDED
from session_service.core.embedded import Embedded


async def verify(request: web.Request) -> web.Response:
    given = await body.read_json(request, wire.SessionTokenVerify)
    claims = _embedded(request).verify(given.session_token, access=parts.access(request))
    return body.respond(claims, headers=grants.NO_STORE)


async def exchange(request: web.Request) -> web.Response:
    given = await body.read_json(request, wire.TokenExchange)
    session = await _embedded(request).exchange(
        given.session_token,
        is_online=given.mode is wire.TokenMode.ONLINE,
        is_forced=given.force,
        access=parts.access(request),
    )
    return grants.granted(session)


def _embedded(request: web.Request) -> Embedded:
    found = request.app.get(EMBEDDED)
    if found is None:
        raise not_configured()
    return found
