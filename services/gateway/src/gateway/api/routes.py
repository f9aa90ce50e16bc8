"""What the gateway itself answers. What its owners answer is in `offers`."""

from chassis.web.app import OPEN, SERVICE, Operation
from contracts import gateway as wire
from gateway.api import api_keys, auth, events, system, webhooks
from gateway.core.auth import PATH

ADMIN = "admin"

INTERNAL = [
    Operation(
        method="POST",
        path="/internal/v1/events",
        handler=events.take,
        summary="Take over events, each once",
        scope=SERVICE,
        request=wire.EventsPosted,
        response=wire.EventsTaken,
        tag="internal",
    )
]
PUBLIC = [
    Operation(
        method="POST",
        path="/v1/keys",
        handler=api_keys.create,
        summary="Make an API key; it is shown in this answer alone",
        scope=ADMIN,
        request=wire.KeyCreate,
        response=wire.ApiKeyCreated,
        status=201,
        also=(200,),
        tag="keys",
    ),
    Operation(
        method="GET",
        path="/v1/keys",
        handler=api_keys.list_all,
        summary="All API keys, newest first, without the keys themselves",
        scope=ADMIN,
        response=wire.ApiKeys,
        tag="keys",
    ),
    Operation(
        method="DELETE",
        path="/v1/keys/{id}",
        handler=api_keys.delete,
        summary="Withdraw an API key",
        scope=ADMIN,
        status=204,
        tag="keys",
    ),
    Operation(
        method="GET",
        path="/v1/system",
        handler=system.show,
        summary="Services, roads, dependencies, and what users can still do",
        scope="ops:read",
        response=wire.System,
        tag="operations",
    ),
    Operation(
        method="PUT",
        path="/v1/system/circuits/{upstream}",
        handler=system.put_circuit,
        summary="Hold a service's circuit open or closed on every gateway for a time, or let it go",
        scope=ADMIN,
        request=wire.CircuitPut,
        response=wire.Circuit,
        tag="operations",
    ),
    Operation(
        method="GET",
        path="/v1/events",
        handler=events.stream,
        summary="Server-sent events that the key may hear of; goes on behind Last-Event-ID",
        scope="jobs:read",
        timeout_s=0,
        tag="operations",
    ),
    Operation(
        method="GET",
        path=PATH,
        handler=auth.begin,
        summary="Send a browser to Shopify, to authorize the app for a shop",
        scope=OPEN,
        query=wire.AuthQuery,
        status=302,
        also=(200,),
        tag="shopify",
    ),
    Operation(
        method="GET",
        path=f"{PATH}/callback",
        handler=auth.complete,
        summary="Where Shopify sends it back to, with a code; then it goes on to the app",
        scope=OPEN,
        status=302,
        timeout_s=25.0,
        tag="shopify",
    ),
    Operation(
        method="GET",
        path=f"{PATH}/bounce",
        handler=auth.bounce,
        summary="A page in Shopify's admin that gets a session token and goes on with it",
        scope=OPEN,
        query=wire.BounceQuery,
        tag="shopify",
    ),
    Operation(
        method="POST",
        path="/webhooks/shopify",
        handler=webhooks.take,
        summary="A webhook of Shopify, signed with the app's secret: it becomes a job",
        scope=OPEN,
        response=wire.WebhookTaken,
        timeout_s=4.5,
        tag="shopify",
    ),
    Operation(
        method="GET",
        path="/v1/openapi.json",
        handler=system.openapi,
        summary="This document",
        scope=OPEN,
        response=wire.OpenApi,
        tag="operations",
    ),
]
OPERATIONS = [*INTERNAL, *PUBLIC]
