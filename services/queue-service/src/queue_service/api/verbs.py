"""What operators ask of jobs that are there, over HTTP."""

import orjson
from aiohttp import web

from chassis.kernel import canonical, ids
from chassis.web import body
from chassis.web.app import CALLER
from contracts import jobs as wire
from contracts.sessions import Redacted
from queue_service.api import keys, paths, render
from queue_service.core.ports import JobFilter
from queue_service.core.verbs import STATES, Sweep, Verb


async def retry_job(request: web.Request) -> web.Response:
    shop = request[CALLER].shop
    return render.answer(
        render.job(await request.app[keys.VERBS].retry(paths.id_of(request), shop=shop))
    )


async def run_job_now(request: web.Request) -> web.Response:
    shop = request[CALLER].shop
    return render.answer(
        render.job(await request.app[keys.VERBS].run_now(paths.id_of(request), shop=shop))
    )


async def cancel_jobs(request: web.Request) -> web.Response:
    return await _sweep(request, Verb.CANCEL)


async def retry_jobs(request: web.Request) -> web.Response:
    return await _sweep(request, Verb.RETRY)


async def _sweep(request: web.Request, verb: Verb) -> web.Response:
    body.require_json(request)
    raw = await body.read_bytes(request)
    said = body.parse(raw, wire.JobsSelect)
    shop, key = request[CALLER].shop, paths.idempotency_key(request)
    asked = Sweep(
        id=ids.new_id() if key is None else ids.derived_id("sweep", verb, shop or "", key),
        verb=verb,
        wanted=_wanted(said.filter),
        states=STATES[verb],
        fingerprint=canonical.fingerprint(orjson.loads(raw)),
    )
    matched = await request.app[keys.VERBS].sweep(asked, shop=shop, dry_run=said.dry_run)
    return render.answer({"matched": matched})


def _wanted(said: wire.JobFilter) -> JobFilter:
    state = said.state.value if said.state is not None else None
    return JobFilter(**said.model_dump(exclude={"state"}), state=state)


async def forget_shop(request: web.Request) -> web.Response:
    named = request.match_info["shop"].strip().lower()
    matched = await request.app[keys.VERBS].forget_shop(named, shop=request[CALLER].shop)
    return render.answer({"matched": matched})


async def redact_shop(request: web.Request) -> web.Response:
    """What the gateway tells of a shop; it may come twice, and by the bus as well."""
    said = await body.read_json(request, Redacted)
    shop = request.match_info["shop"].strip().lower()
    await request.app[keys.VERBS].redact_shop(shop, before=said.before, event_id=said.event_id)
    return web.Response(status=204)


async def retry_failed(request: web.Request) -> web.Response:
    batch_id, shop = paths.id_of(request), request[CALLER].shop
    await request.app[keys.VERBS].retry_failed(batch_id, shop=shop)
    return render.answer(render.batch(await request.app[keys.BATCHES].get(batch_id, shop=shop)))
