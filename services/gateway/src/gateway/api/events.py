"""Events: handed over by services while there is no bus, and told to callers as a stream."""

import asyncio
import time
from collections.abc import Iterable

import orjson
from aiohttp import web

from chassis.kernel import errors
from chassis.web import body, health, trace
from contracts import gateway as wire
from gateway.api import keys as app_keys
from gateway.core import keys
from gateway.core.ports import LoggedEvent

POLL_S = 0.5
KEEP_ALIVE_S = 15.0
PAGE = 200
# The first word of an event's type → the scope that may hear of it; all others are operators'.
SCOPES = {"job": "jobs:read", "batch": "jobs:read", "session": "sessions:read"}
OTHERS_SCOPE = "ops:read"
LAST_MAX = 2**63 - 1


async def take(request: web.Request) -> web.Response:
    posted = await body.read_json(request, wire.EventsPosted)
    taken = await request.app[app_keys.EVENT_LOG].append(
        [event.model_dump(mode="json") for event in posted.events]
    )
    return body.respond(wire.EventsTaken(taken=taken, known=len(posted.events) - taken))


async def stream(request: web.Request) -> web.StreamResponse:
    """Goes on behind Last-Event-ID, on whichever replica; without it, from now on."""
    streams = request.app[app_keys.STREAMS]
    if streams.locked():
        raise errors.Unavailable("too many streams are open here", code="overloaded")
    async with streams:
        return await _tell(request)


async def _tell(request: web.Request) -> web.StreamResponse:
    log, identity = request.app[app_keys.EVENT_LOG], request[app_keys.IDENTITY]
    last = _last_event_id(request)
    number = await log.last() if last is None else last
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "traceparent": trace.current().traceparent(),
        }
    )
    await response.prepare(request)
    await response.write(b": here\n\n")
    spoken = time.monotonic()
    while _is_heard(request):
        # Appends take turns, so all up to here can be seen: a quiet shop does not read it again.
        end = await log.last()
        events = await log.after(number, shop=identity.shop, limit=PAGE)
        audible = _audible(events, identity)
        if audible or time.monotonic() - spoken > KEEP_ALIVE_S:
            async with asyncio.timeout(KEEP_ALIVE_S):
                await response.write(b"".join(map(_written, audible)) or b": still here\n\n")
            spoken = time.monotonic()
        if len(events) == PAGE:
            number = events[-1].number
            continue
        number = max([number, end, *(event.number for event in events)])
        await asyncio.sleep(POLL_S)
    return response


def _is_heard(request: web.Request) -> bool:
    """Until the caller goes, or we do."""
    transport = request.transport
    is_there = transport is not None and not transport.is_closing()
    return is_there and request.app[health.HEALTH].ready


def _last_event_id(request: web.Request) -> int | None:
    given = request.headers.get("Last-Event-ID")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit()) or int(given) > LAST_MAX:
        raise errors.Invalid("Last-Event-ID must be the id of an event")
    return int(given)


def _audible(events: Iterable[LoggedEvent], identity: keys.Identity) -> list[LoggedEvent]:
    if identity.is_admin:
        return list(events)
    return [event for event in events if _scope_of(event) in identity.scopes]


def _scope_of(event: LoggedEvent) -> str:
    return SCOPES.get(str(event.envelope["type"]).partition(".")[0], OTHERS_SCOPE)


def _written(event: LoggedEvent) -> bytes:
    kind = str(event.envelope["type"]).encode()
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (
        event.number,
        kind,
        orjson.dumps(event.envelope),
    )
