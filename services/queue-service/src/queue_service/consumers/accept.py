"""Jobs over the bus. Their callers have been told 202: none of them may vanish.

What of a command cannot be read goes to the dead letters, after its readable jobs have been stored
and the others, as far as they have ids, have become `rejected` jobs.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import jiter
import orjson
import pydantic

from chassis import logs
from chassis.consumer import Verdict
from chassis.kernel import errors, ids
from chassis.web import body
from contracts import commands
from queue_service import metrics
from queue_service.core import enqueue
from queue_service.core.enqueue import Enqueue
from queue_service.core.jobs import NewJob

log = logs.get(__name__)

ROAD = "bus"
UNREADABLE = "unreadable"


class AcceptJobs:
    """A `chassis.consumer.Handle` on the queue of `commands.job.accept.v1`."""

    def __init__(self, use_case: Enqueue) -> None:
        self._enqueue = use_case

    async def __call__(self, raw: bytes) -> Verdict:
        try:
            command = body.parse(raw, commands.AcceptJobs)
        except (errors.Malformed, errors.Invalid) as fault:
            await self._salvage(raw, fault)
            return Verdict.INVALID
        await self._take([enqueue.commanded(accepted) for accepted in command.jobs])
        return Verdict.DONE

    async def _take(self, jobs: list[NewJob]) -> None:
        for outcome in await self._enqueue.promised(jobs):
            if outcome.is_new and outcome.job is not None:
                metrics.ENQUEUED.labels(outcome.job.queue, ROAD).inc()

    async def _salvage(self, raw: bytes, fault: errors.Fault) -> None:
        good: list[NewJob] = []
        bad: list[tuple[NewJob, errors.Fault]] = []
        for said in _said(raw):
            try:
                accepted = body.parse(orjson.dumps(said), commands.AcceptedJob)
                good.append(enqueue.commanded(accepted))
            except (errors.Malformed, errors.Invalid, pydantic.ValidationError, TypeError) as error:
                identifier = _id_of(said)
                if identifier is not None:
                    bad.append((_unreadable(identifier), _named(error)))
        log.error("command_unreadable", why=fault.detail, kept=len(good), rejected=len(bad))
        if good:
            await self._take(good)
        await self._enqueue.unreadable(bad)


def _said(raw: bytes) -> list[Any]:
    """The jobs of a command, whatever they look like."""
    try:
        command = jiter.from_json(raw)
    except ValueError:
        return []
    jobs = command.get("jobs") if isinstance(command, dict) else None
    return jobs if isinstance(jobs, list) else []


def _id_of(said: Any) -> UUID | None:
    given = said.get("id") if isinstance(said, dict) else None
    return ids.parse_id(given) if isinstance(given, str) else None


def _named(error: Exception) -> errors.Fault:
    detail = error.detail if isinstance(error, errors.Fault) else type(error).__name__
    return errors.Invalid(detail)


def _unreadable(identifier: UUID) -> NewJob:
    return NewJob(
        id=identifier,
        kind=UNREADABLE,
        queue=UNREADABLE,
        args={},
        fingerprint="",
        created_at=datetime.now(UTC),
    )
