"""Sessions and tokens over HTTP. No answer here may be stored by anybody on the way."""

from aiohttp import web

from chassis.web import body, cursor
from contracts import sessions as wire
from session_service import metrics
from session_service.api import parts
from session_service.api.grants import NO_STORE, token
from session_service.api.keys import REFRESHING, SESSIONS, TOLD
from session_service.core.sessions import Backend, Found


async def put_session(request: web.Request) -> web.Response:
    expected = parts.if_match(request)
    given = await body.read_json(request, wire.SessionBody)
    parts.require_same_id(request, given.id)
    version = await request.app[SESSIONS].put(
        given.document(), access=parts.access(request), expected=expected
    )
    return body.respond(
        wire.SessionStored(version=version),
        headers={"ETag": parts.etag(version)},
        backend=Backend.POSTGRES,
    )


async def get_session(request: web.Request) -> web.Response:
    access = parts.access(request)
    found = await request.app[SESSIONS].get(parts.session_id(request), access=access)
    return _answer(
        found,
        found.session.document(with_secrets=access.sees_tokens),
        ETag=parts.etag(found.session.version),
    )


async def delete_session(request: web.Request) -> web.Response:
    await request.app[SESSIONS].delete([parts.session_id(request)], access=parts.access(request))
    return web.Response(status=204, headers={"Mainstay-Backend": Backend.POSTGRES})


async def delete_sessions(request: web.Request) -> web.Response:
    given = await body.read_json(request, wire.SessionsDelete)
    deleted = await request.app[SESSIONS].delete(given.ids, access=parts.access(request))
    return body.respond(wire.Deleted(deleted=deleted), backend=Backend.POSTGRES)


async def list_sessions(request: web.Request) -> web.Response:
    query = body.read_query(request, wire.SessionsQuery)
    position = cursor.decode(query.cursor, parts=1)
    after = parts.cursor_text(position[0]) if position is not None else None
    access = parts.access(request)
    found = await request.app[SESSIONS].of_shop(
        parts.shop(request), access=access, after=after, limit=query.limit + 1
    )
    page = found[: query.limit]
    following = cursor.encode([page[-1].id]) if len(found) > query.limit else None
    documents = [session.document(with_secrets=access.sees_tokens) for session in page]
    return cursor.page(
        request, documents, following, Cache_Control="no-store", Mainstay_Backend=Backend.POSTGRES
    )


async def purge_shop(request: web.Request) -> web.Response:
    query = body.read_query(request, wire.PurgeQuery)
    deleted = await request.app[SESSIONS].purge(
        parts.shop(request), access=parts.access(request), before=query.before
    )
    return body.respond(wire.Deleted(deleted=deleted), backend=Backend.POSTGRES)


async def get_token(request: web.Request) -> web.Response:
    again = request.app[TOLD].again(request)
    if again is not None:
        metrics.READS.labels(Backend.MEMORY).count += 1
        return again
    query = body.read_query(request, wire.ShopTokenQuery)
    found = await request.app[REFRESHING].token(
        parts.shop(request),
        user_id=query.user_id,
        min_ttl_s=query.min_ttl,
        access=parts.access(request),
    )
    answer = _answer(found, token(found.session))
    if found.backend is Backend.MEMORY:
        request.app[TOLD].keep(request, answer, found.session, min_ttl_s=query.min_ttl)
    return answer


def _answer(found: Found, value: object, **headers: str) -> web.Response:
    metrics.READS.labels(found.backend).count += 1
    stale = f"sessions;stale={found.stale_s}" if found.stale_s is not None else None
    return body.respond(
        value, headers={**NO_STORE, **headers}, backend=found.backend, degraded=stale
    )
