"""What an operator may ask for out of turn."""

from aiohttp import web

from chassis.web import body
from contracts import sessions as wire
from session_service import metrics
from session_service.api.keys import CLEANUP, REKEYING
from session_service.core.sessions import Backend


async def clean_up(request: web.Request) -> web.Response:
    deleted = await request.app[CLEANUP].now()
    metrics.CLEANUP_DELETED.inc(deleted)
    return body.respond(wire.Deleted(deleted=deleted), backend=Backend.POSTGRES)


async def rekey(request: web.Request) -> web.Response:
    done = await request.app[REKEYING].run()
    return body.respond(
        wire.Rekeyed(rekeyed=done.rekeyed, left=done.left, unreadable=done.unreadable),
        backend=Backend.POSTGRES,
    )
