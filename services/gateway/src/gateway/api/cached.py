"""Answers from the cache, when the caller's Cache-Control allows it."""

from aiohttp import web

from gateway.api import forwarding
from gateway.api import keys as app_keys
from gateway.core import caching
from gateway.core.offers import Offer
from gateway.core.ports import Kept

CACHE_NAME = "mainstay"


def wants(request: web.Request, offer: Offer) -> bool:
    return request.method == "GET" and offer.timeout_s > 0 and _max_age_s(request) > 0


async def answer(request: web.Request, offer: Offer) -> web.StreamResponse:
    async def fetch() -> Kept:
        fetched = await forwarding.fetch(request, offer.owner, timeout_s=offer.timeout_s)
        return Kept(
            status=fetched.status, headers=tuple(fetched.headers), body=fetched.body, stored_at=0.0
        )

    name = caching.name_of(request.get(app_keys.IDENTITY), request.rel_url.raw_path_qs)
    found = await request.app[app_keys.CACHED](name, max_age_s=_max_age_s(request), fetch=fetch)
    response = web.Response(
        status=found.kept.status, body=found.kept.body, headers=list(found.kept.headers)
    )
    if found.age_s is None:
        response.headers["Cache-Status"] = f"{CACHE_NAME}; fwd=miss"
    else:
        response.headers["Cache-Status"] = f"{CACHE_NAME}; hit; detail={found.backend}"
        response.headers["Age"] = str(found.age_s)
    return response


def _max_age_s(request: web.Request) -> int:
    return caching.max_age_s(request.path, request.headers.get("Cache-Control", ""))
