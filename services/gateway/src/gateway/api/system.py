"""The state of the whole, and the document of what is offered."""

from aiohttp import web

from chassis.web import body
from gateway.api import door
from gateway.api import keys as app_keys


async def show(request: web.Request) -> web.Response:
    return body.respond(request.app[app_keys.SYSTEM].tell(), headers={"Cache-Control": "no-store"})


async def openapi(request: web.Request) -> web.Response:
    await door.admit_anybody(request)
    return body.respond(request.app[app_keys.DOCUMENT])
