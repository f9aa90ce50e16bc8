"""Webhooks of Shopify: each becomes a job, whatever road is open, and what it says of a shop's
sessions is on its way to them before Shopify hears that it was taken."""

import asyncio

from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.clock import SystemClock
from chassis.kernel.shopify import not_configured
from chassis.web import body
from gateway import metrics
from gateway.api import door
from gateway.api import keys as app_keys
from gateway.core import webhooks
from gateway.core.enqueue import Outcome
from gateway.core.notices import Notice
from gateway.core.parcels import Parcel
from gateway.core.ports import Road

CLOCK = SystemClock()
MAX_BYTES = 5 * 1024 * 1024
DIRECT_S = 0.25


async def take(request: web.Request) -> web.Response:
    try:
        outcome, road = await _take(request)
    except errors.Fault as fault:
        metrics.WEBHOOKS.labels(_refusal(fault)).inc()
        raise
    metrics.WEBHOOKS.labels(outcome.status).inc()
    metrics.accepted([outcome])
    away = sorted({f"webhooks;{each}" for each in (outcome.road, road) if each is not Road.DIRECT})
    return body.respond(
        {"id": outcome.id, "status": outcome.status},
        headers={"Idempotent-Replay": "true"} if outcome.status == "existing" else None,
        road=outcome.road,
        backend="postgres" if outcome.road is not Road.BUS else None,
        degraded=", ".join(away) or None,
    )


async def _take(request: web.Request) -> tuple[Outcome, Road]:
    app = request.app[app_keys.SHOPIFY_APP]
    if not app.secrets:
        raise not_configured()
    raw = await body.read_bytes(request, limit=MAX_BYTES)
    now = CLOCK.now()
    delivery = webhooks.read(
        list(request.headers.items()), raw, secrets=app.secrets, shops=app.shops, now=now
    )
    await door.admit_webhook(request, delivery.shop)
    payload = body.parse_value(raw)
    notice = webhooks.notice(delivery, payload)
    parcel = webhooks.pack(delivery, payload, now=now)
    kept, told = await asyncio.gather(
        _keep(request, parcel), _tell(request, notice), return_exceptions=True
    )
    for each in (kept, told):
        if isinstance(each, BaseException):
            raise each
    assert isinstance(kept, Outcome)
    assert isinstance(told, Road)
    return kept, told


async def _keep(request: web.Request, parcel: Parcel) -> Outcome:
    """Unavailable also when its owner refuses it: Shopify sends it again, so that it is not lost by
    a queue that somebody has deleted."""
    try:
        outcome = await request.app[app_keys.ENQUEUE].one(parcel, direct_s=DIRECT_S)
    except (errors.Invalid, errors.Conflict) as fault:
        raise _unkept(fault.code) from fault
    if outcome.status == "rejected":
        raise _unkept(str((outcome.problem or {}).get("code")))
    return outcome


async def _tell(request: web.Request, notice: Notice | None) -> Road:
    """On a repeat too: the first may have told nobody."""
    return Road.DIRECT if notice is None else await request.app[app_keys.TELL](notice)


def _unkept(code: str) -> errors.Unavailable:
    return errors.Unavailable(f"it could not become a job: {code}", code="enqueue_unavailable")


def _refusal(fault: errors.Fault) -> str:
    match fault:
        case errors.Limited():
            return "limited"
        case errors.Unavailable() | errors.Broken() | errors.Late():
            return "failed"
        case _:
            return "refused"
