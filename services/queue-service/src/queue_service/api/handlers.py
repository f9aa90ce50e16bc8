"""Push handlers over HTTP. They get the jobs of every shop, so no shop's own key may touch them."""

import base64
import secrets
from typing import Any

from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.clock import rfc3339
from chassis.web import body
from chassis.web.app import CALLER
from contracts import handlers as wire
from queue_service.api import keys, render
from queue_service.core.handlers import NewHandler, PushHandler

KIND_MAX = 128
NEW_SECRET_BYTES = 32


async def put_handler(request: web.Request) -> web.Response:
    kind = _kind_of(request)
    said = await body.read_json(request, wire.HandlerPut)
    new = NewHandler(kind=kind, **said.model_dump(exclude={"secret"}))
    found, made, secret = await request.app[keys.HANDLERS].put(new, secret=said.secret)
    document = _rendered(found) | ({} if secret is None else {"secret": secret})
    return render.answer(document, status=201 if made else 200)


async def get_handler(request: web.Request) -> web.Response:
    return render.answer(_rendered(await request.app[keys.HANDLERS].get(_kind_of(request))))


async def delete_handler(request: web.Request) -> web.Response:
    await request.app[keys.HANDLERS].delete(_kind_of(request))
    said = {"Mainstay-Road": keys.ROAD, "Mainstay-Backend": keys.BACKEND}
    return web.Response(status=204, headers=said)


def new_secret() -> str:
    made = secrets.token_bytes(NEW_SECRET_BYTES)
    return wire.SECRET_PREFIX + base64.b64encode(made).decode()


def _kind_of(request: web.Request) -> str:
    if request[CALLER].shop is not None:
        raise errors.Denied("a push handler gets every shop's jobs; this key has one shop")
    kind = request.match_info["kind"]
    if len(kind) > KIND_MAX or any(char.isspace() or char == "\x00" for char in kind):
        raise errors.NotFound("no kind has this name")
    return kind


def _rendered(found: PushHandler) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "url": found.url,
        "timeout_s": found.timeout_s,
        "max_in_flight": found.max_in_flight,
        "disabled_at": rfc3339(found.disabled_at) if found.disabled_at else None,
        "created_at": rfc3339(found.created_at),
        "updated_at": rfc3339(found.updated_at),
    }
