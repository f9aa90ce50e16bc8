"""Permits over HTTP. A full house is an answer, not an error."""

from uuid import UUID

from aiohttp import web

from chassis.kernel import ids
from chassis.web import body
from contracts.ratelimits import Backend, PermitPost, PermitPut
from ratelimit_service import metrics
from ratelimit_service.api import keys
from ratelimit_service.api.checks import own, owner
from ratelimit_service.core.permits import Permit, unknown_permit

ROAD = str(Backend.POSTGRES)


async def take_permit(request: web.Request) -> web.Response:
    asked = await body.read_json(request, PermitPost)
    own(request, asked.subject)
    permit = await request.app[keys.PERMITS].take(asked)
    metrics.count_permit(permit.policy, "taken" if permit.expires_ms else "refused")
    return _answer(permit)


async def renew_permit(request: web.Request) -> web.Response:
    identifier = _id(request)
    asked = await body.read_json(request, PermitPut)
    permit = await request.app[keys.PERMITS].renew(
        identifier, ttl_ms=asked.ttl_ms, owner=owner(request)
    )
    metrics.count_permit(permit.policy, "renewed")
    return _answer(permit)


async def release_permit(request: web.Request) -> web.Response:
    policy = await request.app[keys.PERMITS].release(_id(request), owner=owner(request))
    if policy is not None:
        metrics.count_permit(policy, "released")
    return web.Response(status=204, headers={"Mainstay-Backend": ROAD})


def _answer(permit: Permit) -> web.Response:
    is_given = permit.expires_ms is not None
    return body.respond(
        {
            "allowed": is_given,
            "id": str(permit.id) if is_given else None,
            "expires_ms": permit.expires_ms,
            "retry_after_ms": permit.retry_after_ms,
            "in_use": permit.in_use,
            "limit": permit.limit,
        },
        backend=ROAD,
    )


def _id(request: web.Request) -> UUID:
    identifier = ids.parse_id(request.match_info["id"])
    if identifier is None:
        raise unknown_permit()
    return identifier
