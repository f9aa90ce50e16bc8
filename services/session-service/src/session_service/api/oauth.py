"""OAuth as the gateway asks for it, which is where browsers come."""

from aiohttp import web

from chassis.kernel.shopify import not_configured
from chassis.web import body
from contracts import sessions as wire
from session_service.api import parts
from session_service.api.keys import OAUTH
from session_service.core.oauth import OAuth
from session_service.core.sessions import Backend

NO_STORE = {"Cache-Control": "no-store"}


async def begin(request: web.Request) -> web.Response:
    given = await body.read_json(request, wire.OAuthBegin)
    begun = await _oauth(request).begin(
        given.shop,
        is_online=given.mode is wire.TokenMode.ONLINE,
        return_to=given.return_to,
        host=given.host,
        access=parts.access(request),
    )
    told = wire.OAuthBegun(authorize_url=begun.authorize_url, cookie=begun.cookie)
    return body.respond(told, headers=NO_STORE, backend=Backend.POSTGRES)


async def complete(request: web.Request) -> web.Response:
    given = await body.read_json(request, wire.OAuthComplete)
    done = await _oauth(request).complete(
        query=given.query, cookie=given.cookie, access=parts.access(request)
    )
    told = wire.OAuthCompleted(
        session_id=done.session.id,
        shop=done.session.shop,
        user_id=done.session.user_id,
        scope=done.session.scope,
        version=done.session.version,
        redirect_to=done.redirect_to,
        clear_cookie=done.clear_cookie,
    )
    return body.respond(told, headers=NO_STORE, backend=Backend.POSTGRES)


def _oauth(request: web.Request) -> OAuth:
    found = request.app.get(OAUTH)
    if found is None:
        raise not_configured()
    return found
