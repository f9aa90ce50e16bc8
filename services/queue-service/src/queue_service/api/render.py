"""What is known, as the documents of `contracts.jobs`. Plain dictionaries: a model per job would
cost more than storing it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from chassis.kernel import errors
from chassis.kernel.clock import rfc3339
from chassis.web import body, problems
from queue_service.api import keys
from queue_service.core.batches import Batch
from queue_service.core.enqueue import Outcome
from queue_service.core.ports import Job, Queue


def answer(
    document: Mapping[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return body.respond(
        document, status=status, headers=headers, road=keys.ROAD, backend=keys.BACKEND
    )


def job(found: Job) -> dict[str, Any]:
    """What is still sealed is not shown. Ids and moments (all are UTC) are left to the encoder."""
    return {
        "id": found.id,
        "queue": found.queue,
        "kind": found.kind,
        "shop": found.shop,
        "state": found.state,
        "priority": found.priority,
        "attempt": found.attempt,
        "max_attempts": found.max_attempts,
        "args": {} if found.is_sealed else found.args,
        "result": None if found.is_sealed else found.result,
        "progress": found.progress,
        "run_at": found.run_at,
        "created_at": found.created_at,
        "started_at": found.started_at,
        "finished_at": found.finished_at,
        "batch_id": found.batch_id,
        "tags": found.tags,
        "errors": found.errors,
        "worker": found.worker,
    }


def queue(found: Queue) -> dict[str, Any]:
    return {
        "name": found.name,
        "served_by": found.served_by,
        "max_age_s": found.max_age_s,
        "concurrency": found.concurrency,
        "global_limit": found.global_limit,
        "per_shop_limit": found.per_shop_limit,
        "max_attempts": found.max_attempts,
        "timeout_s": found.timeout_s,
        "retry": dict(found.retry),
        "paused": found.paused,
        "weights": dict(found.weights),
        "sealed": found.sealed,
        "drop_on_finish": found.drop_on_finish,
        "retention": dict(found.retention),
        "depth": dict(found.depth),
        "depth_is_estimate": found.depth_is_estimate,
        "oldest_ready_age_s": found.oldest_ready_age_s,
    }


def batch(found: Batch) -> dict[str, Any]:
    return {
        "id": str(found.id),
        "name": found.name,
        "shop": found.shop,
        "queue": found.queue,
        "kind": found.kind,
        "state": found.state,
        "total": found.total,
        **dict.fromkeys(("held", "scheduled", "ready", "running", "retrying"), 0),
        **found.live,
        "completed": found.completed,
        "failed": found.failed,
        "cancelled": found.cancelled,
        "rejected_rows": found.rejected_rows,
        "rate": found.rate,
        "eta_s": found.eta_s,
        "created_at": rfc3339(found.created_at),
        "closed_at": _moment(found.closed_at),
        "finished_at": _moment(found.finished_at),
        "on_complete_id": str(found.on_complete_id) if found.on_complete_id else None,
    }


def acceptance(outcome: Outcome) -> dict[str, Any]:
    """A line of the answer to `jobs:accept`."""
    line: dict[str, Any] = {"id": str(outcome.id), "status": status_of(outcome)}
    if outcome.job is not None:
        line["job"] = job(outcome.job)
    if outcome.fault is not None:
        line["problem"] = problem(outcome.fault)
    return line


def batch_line(outcome: Outcome) -> dict[str, Any]:
    """A line of the answer to `jobs:batch`."""
    line: dict[str, Any] = {"id": str(outcome.id), "status": status_of(outcome)}
    return line if outcome.fault is None else {**line, "problem": problem(outcome.fault)}


def refused_line(fault: errors.Fault) -> dict[str, Any]:
    """What was no job, so that it has no id."""
    return {"id": None, "status": "rejected", "problem": problem(fault)}


def status_of(outcome: Outcome) -> str:
    if outcome.job is None:
        return "rejected"
    return "created" if outcome.is_new else "existing"


def problem(fault: errors.Fault) -> dict[str, Any]:
    return problems.document(
        status=problems.status_of(fault),
        code=fault.code,
        detail=fault.detail,
        retryable=fault.retryable,
        flaws=fault.flaws,
    )


def _moment(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment is not None else None
