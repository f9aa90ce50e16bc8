"""Leases over HTTP: workers in any language pull jobs, keep them, and say how they ended."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson
import pydantic
from aiohttp import web

from chassis.kernel import deadline, errors
from chassis.kernel.clock import rfc3339
from chassis.web import body
from chassis.web.app import CALLER
from contracts import leases as wire
from queue_service import metrics
from queue_service.api import keys, paths, render
from queue_service.core.attempts import Raised
from queue_service.core.enqueue import unknown_queue
from queue_service.core.leases import Ask, Beat, Leased, Report, Settled, lease_lost

Item = TypeVar("Item", bound=wire.LeaseHeld)

# Beside the wait: what looking and answering may take.
LOOK_S = 5.0
NO_STORE = {"Cache-Control": "no-store"}


async def lease_jobs(request: web.Request) -> web.Response:
    asked = await body.read_json(request, wire.LeaseAsk)
    return _answer({"jobs": await _lease(request, paths.name_of(request), asked)})


async def settle_leases(request: web.Request) -> web.Response:
    said = await body.read_json(request, wire.LeasesSettle)
    deadline.bind(deadline.Deadline.after(LOOK_S))
    if said.lease is not None:
        # Before anything is settled: a call that is refused changes nothing.
        await _require_pulled(request, said.lease.queue)
    results = await _settle(request, said.outcomes)
    if said.lease is None:
        return _answer({"results": results})
    jobs = await _lease(request, said.lease.queue, said.lease)
    return _answer({"results": results, "jobs": jobs})


async def release_leases(request: web.Request) -> web.Response:
    said = await body.read_json(request, wire.LeasesRelease)
    items = _Items(request, wire.LeaseHeld, said.leases)
    reports = [
        Report(id=one.id, lease_no=lease_no, outcome="release") for one, lease_no in items.good
    ]
    return _answer({"results": await items.settled(reports)})


async def beat_leases(request: web.Request) -> web.Response:
    said = await body.read_json(request, wire.LeasesHeartbeat)
    items = _Items(request, wire.LeaseBeat, said.leases)
    beats = [Beat(one.id, lease_no, one.progress) for one, lease_no in items.good]
    beaten = await request.app[keys.LEASES].beat(
        beats, extend_s=said.extend_s, shop=request[CALLER].shop
    )
    kept = {(beat.id, beat.lease_no) for beat in beats} & beaten.kept.keys()
    good = {place: (beat.id, beat.lease_no) for place, beat in zip(items.at, beats, strict=True)}
    lost = [items.names[place] for place in range(len(said.leases)) if good.get(place) not in kept]
    return _answer(
        {
            "lost": [name for name in lost if name is not None],
            "cancel": [str(job_id) for (job_id, _), stop in beaten.kept.items() if stop],
        }
    )


async def mark_lease(request: web.Request) -> web.Response:
    said = await body.read_json(request, wire.LeaseMark)
    use_case = request.app[keys.LEASES]
    lease_no = use_case.tokens.lease_no(said.id, said.token)
    if lease_no is None:
        raise lease_lost()
    return _answer({"first": await use_case.mark(said.id, lease_no, said.name)})


async def _lease(request: web.Request, queue: str, asked: wire.LeaseAsk) -> list[dict[str, Any]]:
    caller = request[CALLER]
    ask = Ask(
        queue=queue,
        want=asked.max,
        lease_s=asked.lease_s,
        wait_s=asked.wait_ms / 1000,
        shop=caller.shop,
        caller=caller.key_id or caller.service,
        request_id=asked.request_id,
    )
    deadline.bind(deadline.Deadline.after(ask.wait_s + LOOK_S))
    use_case = request.app[keys.LEASES]
    found = await use_case.lease(ask, is_gone=lambda: _is_gone(request))
    now = request.app[keys.CLOCK].now()
    for one in found:
        delay = now - max(one.job.run_at, one.job.created_at)
        metrics.START_DELAY_S.labels(queue).observe(max(0.0, delay.total_seconds()))
    return [_leased(request, one, asked.worker) for one in found]


def _leased(request: web.Request, one: Leased, worker: str | None) -> dict[str, Any]:
    token = request.app[keys.LEASES].tokens.issue(one.job.id, one.lease_no)
    lease = {"token": token, "until": rfc3339(one.until)}
    return {**render.job(one.job), "worker": worker, "snoozes": one.snoozes, "lease": lease}


async def _require_pulled(request: web.Request, queue: str) -> None:
    try:
        await request.app[keys.LEASES].require_pulled(queue)
    except errors.NotFound:
        raise unknown_queue(queue, "/lease/queue") from None


async def _settle(request: web.Request, outcomes: Sequence[Any]) -> list[dict[str, Any]]:
    items = _Items(request, wire.LeaseOutcome, outcomes)
    return await items.settled(
        [
            Report(
                id=one.id,
                lease_no=lease_no,
                outcome=one.outcome.value,
                result=one.result,
                error=_raised(one.error),
                delay_s=one.delay_s,
                progress=one.progress,
                clear_marks=one.clear_marks,
            )
            for one, lease_no in items.good
        ]
    )


class _Items:
    """The items of a list: `good` ones with the lease that their token stands for, `at` their
    places; what is wrong with the others is in `refused`."""

    def __init__(self, request: web.Request, model: type[Item], documents: Sequence[Any]) -> None:
        self._request = request
        self.names = [_name(document) for document in documents]
        self.at: list[int] = []
        self.good: list[tuple[Any, int]] = []
        self.refused: dict[int, errors.Fault | None] = {}
        tokens = request.app[keys.LEASES].tokens
        for place, document in enumerate(documents):
            try:
                one = model.model_validate_json(orjson.dumps(document))
            except pydantic.ValidationError as error:
                self.refused[place] = body.invalid(error)
                continue
            lease_no = tokens.lease_no(one.id, one.token)
            if lease_no is None:
                self.refused[place] = None
            else:
                self.at.append(place)
                self.good.append((one, lease_no))

    async def settled(self, reports: Sequence[Report]) -> list[dict[str, Any]]:
        """A line for each item, in order."""
        shop = self._request[CALLER].shop
        settled = await self._request.app[keys.LEASES].settle(reports, shop=shop)
        _count(settled)
        lines = {place: _line(self.names[place], fault) for place, fault in self.refused.items()}
        for place, one in zip(self.at, settled, strict=True):
            lines[place] = {"id": self.names[place], "status": one.status}
        return [lines[place] for place in sorted(lines)]


def _line(name: str | None, fault: errors.Fault | None) -> dict[str, Any]:
    line: dict[str, Any] = {"id": name, "status": "unknown"}
    return line if fault is None else {**line, "problem": render.problem(fault)}


def _name(document: Any) -> str | None:
    """The id as it was given."""
    given = document.get("id") if isinstance(document, Mapping) else None
    return given if isinstance(given, str) else None


def _raised(error: wire.AttemptError | None) -> Raised | None:
    return None if error is None else Raised(error.type, error.message, error.retryable)


def _count(settled: Sequence[Settled]) -> None:
    for one in settled:
        if one.held is not None and one.verb is not None:
            metrics.FINISHED.labels(one.held.queue, one.verb.value).inc()
            metrics.DURATION_S.labels(one.held.queue).observe(one.held.running_s)


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _answer(document: Mapping[str, Any]) -> web.Response:
    return render.answer(document, headers=NO_STORE)
