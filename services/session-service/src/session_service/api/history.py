"""The history of a shop's tokens over HTTP."""

from aiohttp import web

from chassis.kernel import errors
from chassis.web import body, cursor
from contracts import sessions as wire
from session_service.api import parts
from session_service.api.keys import HISTORY
from session_service.core.audit import Told
from session_service.core.sessions import Backend


async def list_events(request: web.Request) -> web.Response:
    query = body.read_query(request, wire.SessionsQuery)
    position = cursor.decode(query.cursor, parts=1)
    before = _number(position[0]) if position is not None else None
    shop = parts.shop(request)
    parts.access(request).require(shop)
    found = await request.app[HISTORY].of_shop(shop, before=before, limit=query.limit + 1)
    page = found[: query.limit]
    following = cursor.encode([page[-1].number]) if len(found) > query.limit else None
    return cursor.page(
        request, [_event(each) for each in page], following, Mainstay_Backend=Backend.POSTGRES
    )


def _event(told: Told) -> wire.TokenEvent:
    return wire.TokenEvent(
        at=told.at,
        kind=told.kind,
        session_id=told.session_id,
        user_id=told.user_id,
        grant=told.grant,
        reason=told.reason,
        version=told.version,
    )


def _number(value: object) -> int:
    if type(value) is not int or not 0 < value < 2**63:
        raise errors.Invalid("not a cursor of ours", flaws=[errors.Flaw("/cursor", "not a cursor")])
    return value
