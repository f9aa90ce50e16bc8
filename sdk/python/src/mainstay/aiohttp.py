"""Rate limits as a middleware of aiohttp.

    limits = rate_limits(limiter, ["api"], routes={"POST /login": ["login"], "/health": []})
    app = web.Application(middlewares=[limits])

Who asks is the shop that `shop` names, of a session that the app has verified; else the address, by
the count of proxies that are trusted. What a header claims otherwise counts for nothing.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from inspect import isawaitable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from mainstay import errors, limit_headers
from mainstay.addresses import client_address
from mainstay.limiter import Limiter
from mainstay.limits import Decision
from mainstay.ratelimits import Subject

log = logging.getLogger("mainstay.aiohttp")

# A peer without an address (a Unix socket): all of them count as one.
NOBODY = "0.0.0.0"  # noqa: S104
Shop = Callable[[web.Request], str | Awaitable[str | None] | None]
DECISION = web.RequestKey("mainstay_decision", Decision)


def rate_limits(
    limiter: Limiter,
    policies: Sequence[str],
    *,
    routes: Mapping[str, Sequence[str]] | None = None,
    shop: Shop | None = None,
    trusted_hops: int = 0,
    cost: Callable[[web.Request], int] = lambda _request: 1,
) -> Middleware:
    """429 with `RateLimit`, `RateLimit-Policy` and `Retry-After` for who is over a limit, 403 for
    who is on the deny list.

    `routes` names other policies by path ("/orders/{id}", as the route was added) or by method and
    path ("POST /login"); an empty list is no limit. What was decided is `request[DECISION]`. A
    limiter that is away refuses nobody, unless it was made with `on_failure="closed"`: then 503.
    A policy that does not exist is logged and refuses nobody.
    """
    by_route = dict(routes or {})

    @web.middleware
    async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        names = _policies(request, by_route, policies)
        if not names:
            return await handler(request)
        try:
            subject = await _subject(request, shop, trusted_hops)
            decision = await limiter.check(names, cost=cost(request), **subject)
        except errors.Unavailable as error:
            return web.json_response(
                limit_headers.unavailable(error.detail),
                status=503,
                headers={"Retry-After": "1"},
                content_type=limit_headers.CONTENT_TYPE,
            )
        except errors.ApiError as error:
            log.error("the limit of %s cannot be asked: %s", request.match_info, error)
            return await handler(request)
        headers = limit_headers.of(decision)
        if not decision.allowed:
            return web.json_response(
                limit_headers.problem(decision),
                status=limit_headers.status(decision),
                headers=headers,
                content_type=limit_headers.CONTENT_TYPE,
            )
        request[DECISION] = decision
        return await _told(request, handler, headers)

    return limit


async def _told(
    request: web.Request, handler: Handler, headers: Mapping[str, str]
) -> web.StreamResponse:
    """The answer with the headers, unless it is on its way already; refusals of the app too."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.headers.update(headers)
        raise
    if not response.prepared:
        response.headers.update(headers)
    return response


def _policies(
    request: web.Request, by_route: Mapping[str, Sequence[str]], default: Sequence[str]
) -> Sequence[str]:
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else request.path
    found = by_route.get(f"{request.method} {path}")
    return by_route.get(path, default) if found is None else found


async def _subject(request: web.Request, shop: Shop | None, trusted_hops: int) -> Subject:
    if shop is not None:
        named = shop(request)
        verified = await named if isawaitable(named) else named
        if verified:
            return {"shop": verified}
    forwarded_for = ",".join(request.headers.getall("X-Forwarded-For", []))
    return {"ip": client_address(request.remote or NOBODY, forwarded_for, trusted_hops)}
