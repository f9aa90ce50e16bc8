"""The way to a handler whose path has no places: looked up once, when the application is ready."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web, web_urldispatcher

from chassis.web.app import edge

Handle = Callable[[Any], Awaitable[web.StreamResponse]]


def straight(app: web.Application, otherwise: Handle) -> Handle:
    """As the application's own `otherwise`, without asking its router for what is always the same.

    Only where `edge` alone stands before the handlers; a query, an escaped path or an `Expect` goes
    the usual way.
    """
    if list(app.middlewares) != [edge]:
        return otherwise
    ways = {
        (route.method, route.resource.canonical): _always(app, route)
        for route in app.router.routes()
        if isinstance(route.resource, web_urldispatcher.PlainResource)
    }

    async def handle(request: web.Request) -> web.StreamResponse:
        way = ways.get((request.method, request.raw_path))
        if way is None or "Expect" in request.headers:
            return await otherwise(request)
        request._match_info = way  # noqa: SLF001 - as the application itself does
        return await edge(request, way.handler)

    return handle


def _always(
    app: web.Application, route: web.AbstractRoute
) -> web_urldispatcher.UrlMappingMatchInfo:
    """Nothing of it is any request's own: without places there is nothing to match."""
    way = web_urldispatcher.UrlMappingMatchInfo({}, route)
    way.add_app(app)
    way.freeze()
    return way
