"""API keys over HTTP."""

from aiohttp import web

from chassis.web import body
from contracts import gateway as wire
from gateway.api import door
from gateway.api import keys as app_keys
from gateway.core import api_keys, keys


async def create(request: web.Request) -> web.Response:
    wanted = await body.read_json(request, wire.KeyCreate)
    issued = await request.app[app_keys.API_KEYS].create(
        api_keys.Wanted(
            name=wanted.name,
            scopes=frozenset(str(scope) for scope in wanted.scopes),
            shop=wanted.shop,
            expires_at=wanted.expires_at,
        ),
        by=request[app_keys.IDENTITY],
        repeat=door.idempotency_key(request),
    )
    answer = wire.ApiKeyCreated(**_shown(issued.key).model_dump(), key=issued.secret)
    headers = {"Cache-Control": "no-store"}
    if issued.secret is None:
        return body.respond(answer, headers={**headers, "Idempotent-Replay": "true"})
    return body.respond(answer, status=201, headers=headers)


async def list_all(request: web.Request) -> web.Response:
    found = await request.app[app_keys.API_KEYS].list(by=request[app_keys.IDENTITY])
    return body.respond(wire.ApiKeys(items=[_shown(key) for key in found]))


async def delete(request: web.Request) -> web.Response:
    await request.app[app_keys.API_KEYS].delete(
        request.match_info["id"], by=request[app_keys.IDENTITY]
    )
    return web.Response(status=204)


def _shown(key: keys.ApiKey) -> wire.ApiKey:
    return wire.ApiKey(
        id=key.id,
        name=key.name,
        scopes=sorted(key.scopes),
        shop=key.shop,
        expires_at=key.expires_at,
        created_at=key.created_at,
    )
