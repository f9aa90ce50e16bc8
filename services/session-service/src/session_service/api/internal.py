"""What the gateway tells of a shop, as Shopify told it. Each may come twice."""

from aiohttp import web

from chassis.web import body
from contracts import sessions as wire
from session_service.api.keys import INSTALLATIONS
from session_service.core.record import shop_key
from session_service.core.sessions import Backend


async def uninstalled(request: web.Request) -> web.Response:
    said = await body.read_json(request, wire.Uninstalled)
    await request.app[INSTALLATIONS].uninstalled(_shop(request), before=said.before)
    return _done()


async def scopes_updated(request: web.Request) -> web.Response:
    said = await body.read_json(request, wire.ScopesUpdated)
    await request.app[INSTALLATIONS].scopes_updated(
        _shop(request), current=said.current, at=said.at
    )
    return _done()


async def redact(request: web.Request) -> web.Response:
    said = await body.read_json(request, wire.Redacted)
    await request.app[INSTALLATIONS].redacted(
        _shop(request), before=said.before, event_id=said.event_id
    )
    return _done()


def _shop(request: web.Request) -> str:
    return shop_key(request.match_info["shop"])


def _done() -> web.Response:
    return web.Response(status=204, headers={"Mainstay-Backend": Backend.POSTGRES})
