"""Enqueueing by whichever road is open, and reading a job that may still be on one."""

import math
import random
from collections.abc import Sequence
from typing import Any

import orjson
import pydantic
from aiohttp import web

from chassis.kernel import errors, ids
from chassis.kernel.clock import SystemClock
from chassis.web import body, problems, trace
from contracts.jobs import Accepted, JobCreate, JobsCreate
from gateway import metrics
from gateway.api import door, forwarding
from gateway.api import keys as app_keys
from gateway.core import keys, parcels
from gateway.core.enqueue import Outcome
from gateway.core.ports import Road

CLOCK = SystemClock()
OWNER = "queue-service"
REPLAY = {"Idempotent-Replay": "true"}
FIND_S = 2.0
# The backend that keeps the job, by road; the bus is none of those that the header knows.
BACKENDS = {Road.DIRECT: "postgres", Road.SPOOL: "postgres"}


async def create_job(request: web.Request) -> web.StreamResponse:
    body.require_json(request)
    raw = await body.read_bytes(request)
    job, document = body.parse_both(raw, JobCreate)
    identity = request[app_keys.IDENTITY]
    _refuse_other_shop(job, identity)
    parcels.require_small(job, len(raw))
    parcel = parcels.pack(job, document, _stamp(request, identity))
    outcome = await request.app[app_keys.ENQUEUE].one(parcel)
    metrics.accepted([outcome])
    return _answer(outcome)


async def create_jobs(request: web.Request) -> web.StreamResponse:
    body.require_json(request)
    raw = await body.read_bytes(request)
    wanted, document = body.parse_both(raw, JobsCreate)
    identity = request[app_keys.IDENTITY]
    good, refused = _sorted_out(wanted.jobs, identity)
    if refused and wanted.atomic:
        raise _all_refused(refused)
    stamp = _stamp(request, identity)
    packed = parcels.pack_all(good, document, stamp)
    outcomes = await request.app[app_keys.ENQUEUE].all(
        packed, atomic=wanted.atomic, is_keyed=stamp.key is not None
    )
    metrics.accepted(outcomes)
    if wanted.atomic:
        _refuse_all(outcomes)
    _refuse_reused_key(outcomes)
    by_place = {place: _line(outcome) for (place, _), outcome in zip(good, outcomes, strict=True)}
    by_place |= {place: _refused_line(fault) for place, fault in refused.items()}
    return _batch_answer([by_place[place] for place in range(len(wanted.jobs))], outcomes)


async def get_job(request: web.Request) -> web.StreamResponse:
    job_id = ids.parse_id(request.match_info["id"])
    if job_id is None:
        raise errors.NotFound("there is no job with this id")
    identity = request[app_keys.IDENTITY]
    found = await request.app[app_keys.FIND_JOB](
        job_id,
        shop=identity.shop,
        ask=lambda: forwarding.call(request, OWNER, timeout_s=FIND_S),
    )
    if isinstance(found, parcels.Waiting):
        return body.respond(Accepted(id=found.id), status=202, headers=_place(str(found.id)))
    return found


async def change_job(request: web.Request) -> web.StreamResponse:
    """`:cancel` and the like: of a job that is still on its road, nobody can say how it ends."""
    response = await forwarding.call(request, OWNER)
    job_id = ids.parse_id(request.match_info.get("id", ""))
    if response.status != 404 or job_id is None:
        return response
    shop = request[app_keys.IDENTITY].shop
    if await request.app[app_keys.IN_MOTION].find(job_id, shop=shop) is not None:
        raise errors.Unavailable("the job is on its way to its owner; repeat this in a moment")
    return response


def _stamp(request: web.Request, identity: keys.Identity) -> parcels.Stamp:
    return parcels.Stamp(now=CLOCK.now(), key_shop=identity.shop, key=door.idempotency_key(request))


def _refuse_other_shop(job: JobCreate, identity: keys.Identity) -> None:
    if identity.shop is not None and job.shop not in (None, identity.shop):
        raise errors.Denied(
            "this key belongs to another shop",
            code="other_shop",
            flaws=[errors.Flaw("/shop", "another shop than the key's")],
        )


def _sorted_out(
    documents: Sequence[dict[str, Any]], identity: keys.Identity
) -> tuple[list[tuple[int, JobCreate]], dict[int, errors.Fault]]:
    good: list[tuple[int, JobCreate]] = []
    refused: dict[int, errors.Fault] = {}
    for place, document in enumerate(documents):
        try:
            raw = orjson.dumps(document)
            job = JobCreate.model_validate_json(raw)
            _refuse_other_shop(job, identity)
            parcels.require_small(job, len(raw))
            good.append((place, job))
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


def _refuse_all(outcomes: Sequence[Outcome]) -> None:
    """An atomic batch that its owner refused: the first wrong one's problem speaks for all."""
    for outcome in outcomes:
        if outcome.status == "rejected" and outcome.problem is not None:
            raise errors.Invalid(
                str(outcome.problem.get("detail", "a job was refused, so none is stored")),
                code=outcome.problem.get("code"),
                flaws=[
                    errors.Flaw(str(each["pointer"]), str(each["detail"]))
                    for each in outcome.problem.get("errors", [])
                ],
            )


def _refuse_reused_key(outcomes: Sequence[Outcome]) -> None:
    """The key of the whole was used before, with other jobs."""
    for outcome in outcomes:
        if (outcome.problem or {}).get("code") == "idempotency_key_reused":
            raise errors.Invalid(
                "this Idempotency-Key was used with another body", code="idempotency_key_reused"
            )


def _answer(outcome: Outcome) -> web.StreamResponse:
    said: Any = {"road": outcome.road, "backend": BACKENDS.get(outcome.road)}
    match outcome.status:
        case "created":
            return body.respond(outcome.job, status=201, headers=_place(_id(outcome)), **said)
        case "existing":
            headers = _place(_id(outcome)) | REPLAY
            return body.respond(outcome.job, status=200, headers=headers, **said)
        case "accepted":
            return body.respond(
                Accepted(id=outcome.id),
                status=202,
                headers=_place(str(outcome.id)),
                degraded=f"enqueue;{outcome.road}",
                **said,
            )
        case "rejected":
            return _refusal(outcome.problem or {})


def _id(outcome: Outcome) -> str:
    return str((outcome.job or {}).get("id", outcome.id))


def _place(job_id: str) -> dict[str, str]:
    return {"Location": f"/v1/jobs/{job_id}"}


def _refusal(problem: dict[str, Any]) -> web.Response:
    """The owner's problem document as our answer."""
    status = int(problem.get("status", 422))
    document = {**problem, "trace_id": trace.current().trace_id}
    headers = {"Mainstay-Road": str(Road.DIRECT)}
    if status in (429, 503):
        headers["Retry-After"] = str(math.ceil(random.uniform(1, 3)))
    return web.Response(
        status=status,
        body=orjson.dumps(document),
        content_type=problems.CONTENT_TYPE,
        headers=headers,
    )


def _line(outcome: Outcome) -> dict[str, Any]:
    line: dict[str, Any] = {"id": _id(outcome), "status": outcome.status}
    if outcome.fault is not None:
        return {**_refused_line(outcome.fault), "id": _id(outcome)}
    if outcome.problem is not None:
        line["problem"] = outcome.problem
    return line


def _refused_line(fault: errors.Fault) -> dict[str, Any]:
    problem = problems.document(
        status=problems.status_of(fault), code=fault.code, detail=fault.detail, flaws=fault.flaws
    )
    return {"id": None, "status": "rejected", "problem": problem}


def _batch_answer(
    lines: Sequence[dict[str, Any]], outcomes: Sequence[Outcome]
) -> web.StreamResponse:
    away = [each.road for each in outcomes if each.status == "accepted"]
    road = away[0] if away else Road.DIRECT
    return body.respond(
        {"results": list(lines)},
        status=202 if away else 200,
        road=road,
        backend=BACKENDS.get(road),
        degraded=f"enqueue;{road}" if away else None,
    )
