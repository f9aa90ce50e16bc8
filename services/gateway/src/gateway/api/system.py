"""The state of the whole, what operators say of circuits, and the document of what is offered."""

from typing import Any

from aiohttp import web

from chassis.web import body
from contracts import gateway as wire
from gateway.api import door
from gateway.api import keys as app_keys

NO_STORE = {"Cache-Control": "no-store"}


async def show(request: web.Request) -> web.Response:
    told = {**request.app[app_keys.SYSTEM].tell(), **_circuits(request)}
    return body.respond(told, headers=NO_STORE)


async def put_circuit(request: web.Request) -> web.Response:
    upstream = request.match_info["upstream"]
    said = await body.read_json(request, wire.CircuitPut)
    await request.app[app_keys.CIRCUITS].override(
        upstream,
        said.mode,
        for_s=said.expires_s,
        reason=said.reason,
        by=request[app_keys.IDENTITY].key_id,
    )
    return body.respond(_circuits(request)["circuits"][upstream], headers=NO_STORE)


def _circuits(request: web.Request) -> dict[str, Any]:
    return request.app[app_keys.CIRCUITS].tell(request.app[app_keys.SYSTEM].signals)


async def openapi(request: web.Request) -> web.Response:
    await door.admit_anybody(request)
    return body.respond(request.app[app_keys.DOCUMENT])
