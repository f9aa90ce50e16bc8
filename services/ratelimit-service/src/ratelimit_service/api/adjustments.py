"""Refunds, penalties, observations, resets and leases over HTTP."""

from typing import Any

from aiohttp import web

from chassis.web import body
from contracts import ratelimits
from ratelimit_service import metrics
from ratelimit_service.api import keys, parts
from ratelimit_service.api.checks import count, own, owner
from ratelimit_service.core.checks import Decision
from ratelimit_service.core.refunds import Refund


async def refund(request: web.Request) -> web.Response:
    asked = await body.read_json(request, ratelimits.Refund)
    refunds = request.app[keys.REFUNDS]
    return _refunded("refund", await refunds.refund(asked.token, asked.cost, owner=owner(request)))


async def penalize(request: web.Request) -> web.Response:
    asked = await body.read_json(request, ratelimits.Penalize)
    own(request, asked.subject)
    return _levels("penalize", await request.app[keys.ADJUSTMENTS].penalize(asked))


async def observe(request: web.Request) -> web.Response:
    asked = await body.read_json(request, ratelimits.Observe)
    own(request, ratelimits.Subject(shop=asked.shop))
    return _levels("observe", await request.app[keys.OBSERVING].observe(asked))


async def reset(request: web.Request) -> web.Response:
    author = parts.author(request)
    asked = await body.read_json(request, ratelimits.Reset)
    return _levels("reset", await request.app[keys.ADJUSTMENTS].reset(asked, author=author))


async def take_lease(request: web.Request) -> web.Response:
    asked = await body.read_json(request, ratelimits.LeasePost)
    own(request, asked.subject)
    leased = await request.app[keys.LEASES].take(asked)
    count(request, leased.decision)
    metrics.count_adjustment("lease", "done" if leased.granted else "nothing")
    document = {
        "id": leased.id,
        "granted": leased.granted,
        "expires_ms": leased.expires_ms,
        **levels(leased.decision),
    }
    return _said(document, leased.decision)


async def give_back_lease(request: web.Request) -> web.Response:
    query = body.read_query(request, ratelimits.LeaseQuery)
    identifier = request.match_info["id"]
    leases = request.app[keys.LEASES]
    return _refunded(
        "unspent", await leases.give_back(identifier, query.unspent, owner=owner(request))
    )


def levels(decision: Decision) -> dict[str, Any]:
    return {
        "limits": [met.document() for met in decision.met],
        "backend": decision.backend,
        "degraded": decision.degraded is not None,
    }


def _levels(kind: str, decision: Decision) -> web.Response:
    metrics.count_adjustment(kind, "done")
    return _said(levels(decision), decision)


def _said(document: dict[str, Any], decision: Decision) -> web.Response:
    return body.respond(document, backend=str(decision.backend), degraded=decision.degraded)


def _refunded(kind: str, given: Refund) -> web.Response:
    metrics.count_adjustment(kind, "done" if given.refunded else "nothing")
    backend = None if given.backend is None else str(given.backend)
    return body.respond({"refunded": given.refunded}, backend=backend)
