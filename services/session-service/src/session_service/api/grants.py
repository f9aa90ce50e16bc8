"""Tokens as Shopify grants them to the app itself. No answer here may be stored on the way."""

from aiohttp import web

from chassis.web import body
from contracts import sessions as wire
from session_service.api import parts
from session_service.api.keys import REFRESHING
from session_service.core.record import ShopifySession
from session_service.core.sessions import Backend

NO_STORE = {"Cache-Control": "no-store"}
# A little less than the operation has, so that the answer still goes out.
MIGRATION_S = 50.0


async def reject_token(request: web.Request) -> web.Response:
    given = await body.read_json(request, wire.TokenReject)
    found = await request.app[REFRESHING].reject(
        parts.shop(request),
        user_id=given.user_id,
        version=given.version,
        access=parts.access(request),
    )
    return body.respond(token(found.session), headers=NO_STORE, backend=found.backend)


async def client_credentials(request: web.Request) -> web.Response:
    session = await request.app[REFRESHING].by_client_credentials(
        parts.shop(request), access=parts.access(request)
    )
    return granted(session)


async def migrate(request: web.Request) -> web.Response:
    session = await request.app[REFRESHING].migrate(
        parts.shop(request), access=parts.access(request)
    )
    return granted(session)


async def migrate_all(request: web.Request) -> web.Response:
    done = await request.app[REFRESHING].migrate_all(within_s=MIGRATION_S)
    return body.respond(
        wire.Migrated(migrated=done.migrated, failed=done.failed, left=done.left),
        backend=Backend.POSTGRES,
    )


def granted(session: ShopifySession) -> web.Response:
    """wire.GrantedToken: a token with the session that it was stored in."""
    told = token(session) | {
        "session_id": session.id,
        "shop": session.shop,
        "user_id": session.user_id,
    }
    return body.respond(told, headers=NO_STORE, backend=Backend.POSTGRES)


def token(session: ShopifySession) -> dict[str, object]:
    """wire.Token."""
    return {
        "access_token": session.tokens.access,
        "scope": session.scope,
        "expires": session.tokens.expires_ms,
        "version": session.version,
    }
