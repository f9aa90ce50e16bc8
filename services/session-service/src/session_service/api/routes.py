"""Everything that session-service answers."""

from chassis.web.app import SERVICE, Operation
from contracts import sessions as wire
from contracts.commands import ShopVerb
from session_service.api import history, internal, maintenance, sessions

# Ids hold whatever their makers like, braces too; a slash comes coded.
ONE = "/v1/sessions/{id:[^/]+}"
SHOP = "/v1/shops/{shop:[^/]+}"

ROUTES = (
    Operation(
        method="PUT",
        path=ONE,
        handler=sessions.put_session,
        summary="Store a session in place of the one under this id",
        scope="sessions:write",
        request=wire.SessionBody,
        response=wire.SessionStored,
        tag="sessions",
    ),
    Operation(
        method="GET",
        path=ONE,
        handler=sessions.get_session,
        summary="A session; its tokens only with the scope tokens:read",
        scope="sessions:read",
        response=wire.SessionBody,
        tag="sessions",
    ),
    Operation(
        method="DELETE",
        path=ONE,
        handler=sessions.delete_session,
        summary="Delete a session; 204 also when there is none",
        scope="sessions:write",
        status=204,
        tag="sessions",
    ),
    Operation(
        method="POST",
        path="/v1/sessions:batchDelete",
        handler=sessions.delete_sessions,
        summary="Delete up to 1000 sessions by their ids",
        scope="sessions:write",
        request=wire.SessionsDelete,
        response=wire.Deleted,
        tag="sessions",
    ),
    Operation(
        method="GET",
        path=f"{SHOP}/sessions",
        handler=sessions.list_sessions,
        summary="The sessions of a shop, by id",
        scope="sessions:read",
        query=wire.SessionsQuery,
        response=wire.SessionPage,
        tag="sessions",
    ),
    Operation(
        method="DELETE",
        path=SHOP,
        handler=sessions.purge_shop,
        summary="Delete every session of a shop, or those granted by a moment",
        scope="sessions:write",
        query=wire.PurgeQuery,
        response=wire.Deleted,
        tag="sessions",
    ),
    Operation(
        method="GET",
        path=f"{SHOP}/token",
        handler=sessions.get_token,
        summary="The access token to call a shop with",
        scope="tokens:read",
        query=wire.TokenQuery,
        response=wire.Token,
        tag="sessions",
    ),
    Operation(
        method="GET",
        path=f"{SHOP}/token-events",
        handler=history.list_events,
        summary="What happened to the tokens of a shop, the newest first",
        scope="sessions:read",
        query=wire.SessionsQuery,
        response=wire.TokenEventPage,
        tag="sessions",
    ),
    Operation(
        method="POST",
        path="/v1/maintenance/rekey",
        handler=maintenance.rekey,
        summary="Seal anew, under the current key, what is sealed under another",
        scope="admin",
        response=wire.Rekeyed,
        timeout_s=60.0,
        tag="maintenance",
    ),
    Operation(
        method="POST",
        path="/v1/maintenance/cleanup",
        handler=maintenance.clean_up,
        summary="Delete sessions whose tokens have ended, now instead of at the full hour",
        scope="admin",
        response=wire.Deleted,
        timeout_s=60.0,
        tag="maintenance",
    ),
    *(
        Operation(
            method="POST",
            path=f"/internal/v1/shops/{{shop:[^/:]+}}:{verb}",
            handler=handler,
            summary=summary,
            scope=SERVICE,
            request=request,
            status=204,
            tag="internal",
        )
        for verb, handler, summary, request in (
            (
                ShopVerb.UNINSTALLED,
                internal.uninstalled,
                "A shop has removed the app: what it was granted by then is no more",
                wire.Uninstalled,
            ),
            (
                ShopVerb.SCOPES_UPDATED,
                internal.scopes_updated,
                "A shop has granted other scopes",
                wire.ScopesUpdated,
            ),
            (
                ShopVerb.REDACT,
                internal.redact,
                "A shop is to be forgotten, here and by every service",
                wire.Redacted,
            ),
        )
    ),
)
