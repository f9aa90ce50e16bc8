"""What the gateway tells of shops. It may come twice, and by the bus as well."""

from aiohttp import web

from chassis.web import body
from contracts.sessions import Redacted
from ratelimit_service.api import keys


async def redact(request: web.Request) -> web.Response:
    said = await body.read_json(request, Redacted)
    shop = request.match_info["shop"].strip().lower()
    await request.app[keys.REDACTION](shop, before=said.before, event_id=said.event_id)
    return web.Response(status=204)
