"""Queues over HTTP."""

from typing import Any

from aiohttp import web

from chassis.kernel import errors
from chassis.web import body, cursor
from contracts import jobs as wire
from queue_service.api import keys, paths, render
from queue_service.core.ports import Queue


async def list_queues(request: web.Request) -> web.Response:
    query = body.read_query(request, wire.PageQuery)
    after = cursor.decode(query.cursor, parts=1) or [""]
    if not isinstance(after[0], str):
        flaw = errors.Flaw("/cursor", "not a cursor")
        raise errors.Invalid("not a cursor of ours", flaws=[flaw])
    found = await request.app[keys.QUEUES].page(after=after[0], limit=query.limit + 1)
    page = found[: query.limit]
    next_cursor = cursor.encode([page[-1].name]) if len(found) > query.limit else None
    return paths.page(request, [render.queue(queue) for queue in page], next_cursor)


async def get_queue(request: web.Request) -> web.Response:
    return _answer(await request.app[keys.QUEUES].get(paths.name_of(request)))


async def put_queue(request: web.Request) -> web.Response:
    name = paths.name_of(request)
    change = _change(await body.read_json(request, wire.QueuePut))
    queue, created = await request.app[keys.QUEUES].put(name, change)
    return _answer(queue, status=201 if created else 200)


async def patch_queue(request: web.Request) -> web.Response:
    name = paths.name_of(request)
    change = _change(await body.read_json(request, wire.QueuePut))
    return _answer(await request.app[keys.QUEUES].change(name, change))


async def pause_queue(request: web.Request) -> web.Response:
    return await _pause(request, is_paused=True)


async def resume_queue(request: web.Request) -> web.Response:
    return await _pause(request, is_paused=False)


async def _pause(request: web.Request, *, is_paused: bool) -> web.Response:
    name = paths.name_of(request)
    return _answer(await request.app[keys.QUEUES].change(name, {"paused": is_paused}))


async def delete_queue(request: web.Request) -> web.Response:
    await request.app[keys.QUEUES].delete(paths.name_of(request))
    said = {"Mainstay-Road": keys.ROAD, "Mainstay-Backend": keys.BACKEND}
    return web.Response(status=204, headers=said)


def _change(said: wire.QueuePut) -> dict[str, Any]:
    """What was said, and only that: null is a word of its own."""
    return said.model_dump(mode="json", include=said.model_fields_set)


def _answer(queue: Queue, *, status: int = 200) -> web.Response:
    return render.answer(render.queue(queue), status=status)
