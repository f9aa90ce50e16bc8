"""The way to a handler whose path has no places, or one in its middle: looked up once, when the
application is ready."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aiohttp import web, web_urldispatcher

from chassis.web.app import edge

Handle = Callable[[Any], Awaitable[web.StreamResponse]]
MatchInfo = web_urldispatcher.UrlMappingMatchInfo
# `/v1/shops/{shop}/token`: the place is a whole step of the path, and what follows has none.
_ONE_PLACE = re.compile(r"(/[^{}]*/)\{(\w+)(?::\[\^/\]\+)?\}(/(?:[^{}]*/)?)([^{}/]+)")
# What would have to be decoded, or ends a path.
_ODD = re.compile(r"[%{}/#]")


def straight(app: web.Application, otherwise: Handle) -> Handle:
    """As the application's own `otherwise`, without asking its router for what is always the same.

    Only where `edge` alone stands before the handlers; an escaped path or an `Expect` goes the
    usual way, and a query to a path without places.
    """
    if list(app.middlewares) != [edge]:
        return otherwise
    ways = {
        (route.method, route.resource.canonical): _always(app, route, {})
        for route in app.router.routes()
        if isinstance(route.resource, web_urldispatcher.PlainResource)
    }

    places = _Places(app)

    async def handle(request: web.Request) -> web.StreamResponse:
        way = ways.get((request.method, request.raw_path))
        if way is None:
            way = places.find(request)
        if way is None or "Expect" in request.headers:
            return await otherwise(request)
        request._match_info = way  # noqa: SLF001 - as the application itself does
        return await edge(request, way.handler)

    return handle


def _always(app: web.Application, route: web.AbstractRoute, places: dict[str, str]) -> MatchInfo:
    """Without places nothing of it is any request's own."""
    way = MatchInfo(places, route)
    way.add_app(app)
    way.freeze()
    return way


class _Way(NamedTuple):
    before: str
    place: str
    after: str
    route: web.AbstractRoute


class _Places:
    """Paths with one place, by method and last step, where no other resource takes the same."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._ways: dict[tuple[str, str], _Way | None] = {}
        for route in app.router.routes():
            resource = route.resource
            if not isinstance(resource, web_urldispatcher.DynamicResource):
                continue
            found = _ONE_PLACE.fullmatch(resource._orig_path)  # noqa: SLF001 - as it was written
            others = [each for each in app.router.resources() if each is not resource]
            if found is None or any(_may_meet(resource, other) for other in others):
                continue
            before, place, between, last = found.groups()
            key, way = (route.method, last), _Way(before, place, between + last, route)
            # Two of one ending: rare, and then both go the usual way.
            self._ways[key] = None if key in self._ways else way

    def find(self, request: web.Request) -> MatchInfo | None:
        path = request.raw_path
        if "?" in path:
            path = path.partition("?")[0]
        way = self._ways.get((request.method, path[path.rfind("/") + 1 :]))
        if way is None:
            return None
        before, place, after, route = way
        held = path[len(before) : -len(after)]
        if not held or _ODD.search(held) or path != before + held + after:
            return None
        return _always(self._app, route, {place: held})


def _may_meet(one: web.AbstractResource, other: web.AbstractResource) -> bool:
    """Could both take the same path? A step with a place in it may be any."""
    steps, others = one.canonical.split("/"), other.canonical.split("/")
    may_be_longer = ".+" in getattr(other, "_orig_path", "")
    return (len(steps) == len(others) or may_be_longer) and all(
        mine == theirs or "{" in mine + theirs for mine, theirs in zip(steps, others, strict=False)
    )
