"""Jobs over HTTP: one, many, what the gateway hands over; read, listed, cancelled."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
import pydantic
from aiohttp import web

from chassis.kernel import errors
from chassis.web import body
from chassis.web.app import CALLER
from contracts import commands
from contracts import jobs as wire
from queue_service import metrics
from queue_service.api import keys, paths, render
from queue_service.core import enqueue
from queue_service.core.enqueue import Outcome
from queue_service.core.jobs import NewJob
from queue_service.core.ports import JobFilter

REPLAY = {"Idempotent-Replay": "true"}
# A thousand jobs under their wrappings; the public paths take 1 MiB, as all others.
ACCEPT_BYTES = 8 * 1024 * 1024

_enqueued = cache(metrics.ENQUEUED.labels)


async def create_job(request: web.Request) -> web.Response:
    body.require_json(request)
    raw = await body.read_bytes(request)
    said, document = body.parse_both(raw, wire.JobCreate)
    new = enqueue.new_job(said, document, _stamp(request, len(raw)))
    outcome = await request.app[keys.ENQUEUE].one(new)
    _count([outcome])
    assert outcome.job is not None
    headers = {"Location": f"/v1/jobs/{outcome.id}"}
    if outcome.is_new:
        return render.answer(render.job(outcome.job), status=201, headers=headers)
    return render.answer(render.job(outcome.job), headers=headers | REPLAY)


async def create_jobs(request: web.Request) -> web.Response:
    body.require_json(request)
    raw = await body.read_bytes(request)
    wanted, document = body.parse_both(raw, wire.JobsCreate)
    stamp = _stamp(request, len(raw))
    good, refused = _sorted_out(wanted.jobs, stamp)
    if refused and wanted.atomic:
        raise _all_refused(refused)
    jobs = enqueue.new_jobs(good, document, stamp)
    outcomes = await _put(request, list(jobs.values()), stamp, atomic=wanted.atomic)
    _count(outcomes)
    lines = {place: render.batch_line(one) for place, one in zip(jobs, outcomes, strict=True)}
    lines |= {place: render.refused_line(fault) for place, fault in refused.items()}
    return render.answer({"results": [lines[place] for place in sorted(lines)]})


async def _put(
    request: web.Request, jobs: list[NewJob], stamp: enqueue.Stamp, *, atomic: bool
) -> list[Outcome]:
    use_case = request.app[keys.ENQUEUE]
    if not jobs:
        return []
    if not atomic:
        return await (use_case.keyed(jobs) if stamp.key is not None else use_case.many(jobs))
    outcomes = await use_case.all(jobs)
    faults = [one.fault for one in outcomes if one.fault is not None]
    if faults:
        raise errors.Invalid(
            f"none was stored: {faults[0].detail}", code=faults[0].code, flaws=faults[0].flaws
        )
    return outcomes


async def accept_jobs(request: web.Request) -> web.Response:
    body.require_json(request)
    command = body.parse(await body.read_bytes(request, limit=ACCEPT_BYTES), commands.AcceptJobs)
    use_case = request.app[keys.ENQUEUE]
    jobs = [enqueue.commanded(accepted) for accepted in command.jobs]
    if command.promised:
        outcomes = await use_case.promised(jobs)
    elif command.atomic:
        outcomes = await use_case.all(jobs)
    else:
        outcomes = await use_case.many(jobs)
    _count(outcomes)
    return render.answer({"results": [render.acceptance(one) for one in outcomes]})


async def get_job(request: web.Request) -> web.Response:
    shop = request[CALLER].shop
    job = await request.app[keys.JOBS].get(paths.id_of(request), shop=shop)
    return render.answer(render.job(job))


async def list_jobs(request: web.Request) -> web.Response:
    query = body.read_query(request, wire.JobQuery)
    wanted = JobFilter(
        **query.model_dump(exclude={"limit", "cursor", "state"}),
        state=query.state.value if query.state is not None else None,
    )
    page = await request.app[keys.JOBS].newest(
        wanted,
        shop=request[CALLER].shop,
        after=paths.position(query.cursor),
        limit=query.limit,
    )
    return paths.page(request, [render.job(job) for job in page.jobs], paths.cursor_of(page.next))


async def cancel_job(request: web.Request) -> web.Response:
    shop = request[CALLER].shop
    job = await request.app[keys.JOBS].cancel(paths.id_of(request), shop=shop)
    return render.answer(render.job(job))


def _stamp(request: web.Request, size: int) -> enqueue.Stamp:
    return enqueue.Stamp(
        now=request.app[keys.CLOCK].now(),
        shop=request[CALLER].shop,
        key=paths.idempotency_key(request),
        size=size,
    )


def _sorted_out(
    documents: Sequence[dict[str, Any]], stamp: enqueue.Stamp
) -> tuple[dict[int, wire.JobCreate], dict[int, errors.Fault]]:
    good: dict[int, wire.JobCreate] = {}
    refused: dict[int, errors.Fault] = {}
    for place, document in enumerate(documents):
        try:
            job = wire.JobCreate.model_validate_json(orjson.dumps(document))
            enqueue.require_fitting(job, stamp)
            good[place] = job
        except pydantic.ValidationError as error:
            refused[place] = body.invalid(error)
        except errors.Fault as fault:
            refused[place] = fault
    return good, refused


def _all_refused(refused: dict[int, errors.Fault]) -> errors.Invalid:
    flaws = [
        errors.Flaw(f"/jobs/{place}{flaw.pointer}", flaw.detail)
        for place, fault in refused.items()
        for flaw in fault.flaws
    ]
    return errors.Invalid(f"{flaws[0].pointer}: {flaws[0].detail}", flaws=flaws)


def _count(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.is_new and outcome.job is not None:
            _enqueued(outcome.job.queue, keys.ROAD).inc()
