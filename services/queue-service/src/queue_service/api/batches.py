"""Batches over HTTP; their items are in `uploads`."""

import orjson
from aiohttp import web

from chassis.crypto import Caller
from chassis.kernel import canonical, ids
from chassis.web import body
from chassis.web.app import CALLER
from contracts import jobs as wire
from queue_service.api import keys, paths, render
from queue_service.core.batches import Batch, NewBatch
from queue_service.core.enqueue import other_shop
from queue_service.core.ports import Position

REPLAY = {"Idempotent-Replay": "true"}


async def create_batch(request: web.Request) -> web.Response:
    body.require_json(request)
    raw = await body.read_bytes(request)
    said = body.parse(raw, wire.BatchCreate)
    document = orjson.loads(raw)
    document.pop("id", None)
    key = paths.idempotency_key(request)
    new = _new(said, canonical.fingerprint(document), request[CALLER], key)
    batch, created = await request.app[keys.BATCHES].create(new, keyed=_is_keyed(said, key))
    headers = {"Location": f"/v1/batches/{batch.id}"}
    if created:
        return _answer(batch, status=201, headers=headers)
    return _answer(batch, headers=headers | REPLAY)


def _new(said: wire.BatchCreate, fingerprint: str, caller: Caller, key: str | None) -> NewBatch:
    _require_own_shop(said, caller.shop)
    scope = caller.shop or said.shop or ""
    identifier = said.id or (
        ids.derived_id("batch-key", scope, key) if key is not None else ids.new_id()
    )
    on_complete = said.on_complete
    return NewBatch(
        id=identifier,
        name=said.name,
        kind=said.kind,
        queue=said.queue,
        shop=said.shop or caller.shop,
        defaults=said.defaults.model_dump(mode="json"),
        on_complete=on_complete.model_dump(mode="json") if on_complete is not None else None,
        hold=said.hold,
        fingerprint=fingerprint,
    )


def _is_keyed(said: wire.BatchCreate, key: str | None) -> bool:
    """An own id decides by itself what a repeat is."""
    return key is not None and said.id is None


def _require_own_shop(said: wire.BatchCreate, shop: str | None) -> None:
    named = {"/shop": said.shop, "/defaults/shop": said.defaults.shop}
    if said.on_complete is not None:
        named["/on_complete/shop"] = said.on_complete.shop
    for pointer, one in named.items():
        if shop is not None and one not in (None, shop):
            raise other_shop(pointer)


async def list_batches(request: web.Request) -> web.Response:
    query = body.read_query(request, wire.PageQuery)
    found = await request.app[keys.BATCHES].newest(
        shop=request[CALLER].shop, after=paths.position(query.cursor), limit=query.limit + 1
    )
    page = found[: query.limit]
    more = Position(page[-1].created_at, page[-1].id) if len(found) > query.limit else None
    return paths.page(request, [render.batch(batch) for batch in page], paths.cursor_of(more))


async def get_batch(request: web.Request) -> web.Response:
    shop = request[CALLER].shop
    return _answer(await request.app[keys.BATCHES].get(paths.id_of(request), shop=shop))


async def close_batch(request: web.Request) -> web.Response:
    shop = request[CALLER].shop
    return _answer(await request.app[keys.BATCHES].close(paths.id_of(request), shop=shop))


async def pause_batch(request: web.Request) -> web.Response:
    return await _hold(request, is_paused=True)


async def resume_batch(request: web.Request) -> web.Response:
    return await _hold(request, is_paused=False)


async def _hold(request: web.Request, *, is_paused: bool) -> web.Response:
    use_case, shop = request.app[keys.BATCHES], request[CALLER].shop
    return _answer(await use_case.hold(paths.id_of(request), paused=is_paused, shop=shop))


async def cancel_batch(request: web.Request) -> web.Response:
    shop = request[CALLER].shop
    return _answer(await request.app[keys.BATCHES].cancel(paths.id_of(request), shop=shop))


def _answer(
    batch: Batch, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return render.answer(render.batch(batch), status=status, headers=headers)
