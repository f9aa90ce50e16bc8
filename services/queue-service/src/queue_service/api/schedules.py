"""Schedules over HTTP."""

from typing import Any

from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.clock import rfc3339
from chassis.web import body, cursor
from chassis.web.app import CALLER
from contracts import jobs as jobs_wire
from contracts import schedules as wire
from queue_service.api import keys, paths, render
from queue_service.core import enqueue
from queue_service.core.schedules import NewSchedule, Schedule


async def put_schedule(request: web.Request) -> web.Response:
    name, shop = paths.name_of(request), request[CALLER].shop
    body.require_json(request)
    raw = await body.read_bytes(request)
    said = body.parse(raw, wire.SchedulePut)
    _require_fitting(request, said.job, len(raw))
    new = NewSchedule(
        name=name,
        shop=said.job.shop or shop,
        job=said.job.model_dump(mode="json", exclude_unset=True),
        **said.model_dump(mode="json", exclude={"job"}),
    )
    schedule, made = await request.app[keys.SCHEDULES].put(new, shop=shop)
    return render.answer(_rendered(schedule), status=201 if made else 200)


async def get_schedule(request: web.Request) -> web.Response:
    name, shop = paths.name_of(request), request[CALLER].shop
    return render.answer(_rendered(await request.app[keys.SCHEDULES].get(name, shop=shop)))


async def list_schedules(request: web.Request) -> web.Response:
    query = body.read_query(request, jobs_wire.PageQuery)
    after = cursor.decode(query.cursor, parts=1) or [""]
    if not isinstance(after[0], str):
        flaw = errors.Flaw("/cursor", "not a cursor")
        raise errors.Invalid("not a cursor of ours", flaws=[flaw])
    found = await request.app[keys.SCHEDULES].page(
        shop=request[CALLER].shop, after=after[0], limit=query.limit + 1
    )
    page = found[: query.limit]
    next_cursor = cursor.encode([page[-1].name]) if len(found) > query.limit else None
    return paths.page(request, [_rendered(schedule) for schedule in page], next_cursor)


async def delete_schedule(request: web.Request) -> web.Response:
    await request.app[keys.SCHEDULES].delete(paths.name_of(request), shop=request[CALLER].shop)
    said = {"Mainstay-Road": keys.ROAD, "Mainstay-Backend": keys.BACKEND}
    return web.Response(status=204, headers=said)


def _require_fitting(request: web.Request, job: wire.ScheduledJob, size: int) -> None:
    """As for a job of its own, with the places where the caller wrote them."""
    stamp = enqueue.Stamp(
        now=request.app[keys.CLOCK].now(), shop=request[CALLER].shop, key=None, size=size
    )
    try:
        enqueue.require_fitting(job, stamp)
    except (errors.Invalid, errors.Denied) as fault:
        flaws = [errors.Flaw(f"/job{flaw.pointer}", flaw.detail) for flaw in fault.flaws]
        raise type(fault)(fault.detail, code=fault.code, flaws=flaws) from None


def _rendered(found: Schedule) -> dict[str, Any]:
    return {
        "name": found.name,
        "cron": found.cron,
        "timezone": found.timezone,
        "job": dict(found.job),
        "missed": found.missed,
        "overlap": found.overlap,
        "enabled": found.enabled,
        "next_fire_at": rfc3339(found.next_fire_at) if found.next_fire_at else None,
        "last_fire_at": rfc3339(found.last_fire_at) if found.last_fire_at else None,
        "last_job_id": str(found.last_job_id) if found.last_job_id else None,
        "created_at": rfc3339(found.created_at),
        "updated_at": rfc3339(found.updated_at),
    }
