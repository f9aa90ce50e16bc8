"""The routes that belong to owners: made of what their committed documents offer."""

from collections.abc import Iterable
from contextlib import suppress

from aiohttp import web

from chassis.kernel import errors
from chassis.web.app import OPEN, Handler, Operation
from gateway.api import cached, door, forwarding
from gateway.api import jobs as jobs_api
from gateway.api import keys as app_keys
from gateway.core.offers import Offer

JOBS_S = 5.5
QUEUE_PATH = "/v1/queues/{"
JOB_PATH = "/v1/jobs/{"
OURS = {
    ("POST", "/v1/jobs"): jobs_api.create_job,
    ("POST", "/v1/jobs:batch"): jobs_api.create_jobs,
    ("GET", "/v1/jobs/{id}"): jobs_api.get_job,
}
CHANGES = frozenset({"PUT", "PATCH", "DELETE"})


def operations(offers: Iterable[Offer]) -> list[Operation]:
    return [
        Operation(
            method=offer.method,
            path=offer.path,
            handler=_handler(offer),
            summary=offer.summary,
            scope=offer.scope,
            timeout_s=_timeout_s(offer),
            tag=offer.tag,
        )
        for offer in offers
    ]


def _timeout_s(offer: Offer) -> float:
    return JOBS_S if (offer.method, offer.path) in OURS else offer.timeout_s


def _handler(offer: Offer) -> Handler:
    handler = OURS.get((offer.method, offer.path)) or _passing_on(offer)
    if offer.scope != OPEN:
        return handler

    async def handle(request: web.Request) -> web.StreamResponse:
        await door.admit_anybody(request)
        return await handler(request)

    return handle


def _passing_on(offer: Offer) -> Handler:
    if offer.method == "POST" and offer.path.startswith(JOB_PATH):
        return jobs_api.change_job
    if offer.method in CHANGES and offer.path.startswith(QUEUE_PATH):
        return _then_look_again(offer)

    async def handle(request: web.Request) -> web.StreamResponse:
        if offer.is_upload:
            return await forwarding.upload(request, offer.owner)
        if offer.timeout_s == 0:
            return await forwarding.poll(request, offer.owner)
        if cached.wants(request, offer):
            return await cached.answer(request, offer)
        return await forwarding.call(request, offer.owner, timeout_s=offer.timeout_s)

    return handle


def _then_look_again(offer: Offer) -> Handler:
    """A queue is known on every road when the answer to its making goes out."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = await forwarding.call(request, offer.owner, timeout_s=offer.timeout_s)
        if response.status < 300:
            with suppress(errors.Unavailable):
                await request.app[app_keys.QUEUES].refresh()
        return response

    return handle
