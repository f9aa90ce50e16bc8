"""New jobs as the columns of one statement, and its answer as a verdict for each."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from queue_service.core.jobs import NewJob, Stored, Verdict

NO_LANE = 0
DEFAULT_PRIORITY = 5
A_DAY = timedelta(days=1)

Lane = tuple[str, str]
Lanes = Mapping[Lane, int]


def lane_of(job: NewJob) -> Lane:
    return job.queue, job.shop or ""


def columns(jobs: Sequence[NewJob], args: Sequence[Any], lanes: Lanes) -> list[Any]:
    """One array per column; jobs of unknown queues have no lane and are not stored."""
    told = [job.id for job in jobs if not job.is_secret]
    return [
        [job.id for job in jobs],
        [lanes.get(lane_of(job), NO_LANE) for job in jobs],
        [job.kind for job in jobs],
        [job.fingerprint for job in jobs],
        args,
        sparse([job.priority for job in jobs], DEFAULT_PRIORITY),
        sparse([job.run_at for job in jobs]),
        sparse([job.created_at for job in jobs]),
        sparse([job.max_attempts for job in jobs]),
        sparse([job.timeout_s for job in jobs]),
        sparse([job.notify for job in jobs], False),
        [text_array(job.tags) for job in jobs] if any(job.tags for job in jobs) else [],
        sparse([job.retry for job in jobs]),
        sparse([job.batch_id for job in jobs]),
        sparse([job.held for job in jobs], False),
        [job.scope for job in jobs] if any(job.key is not None for job in jobs) else [],
        sparse([job.key for job in jobs]),
        told,
        _since(told),
    ]


def unique_columns(jobs: Sequence[NewJob]) -> list[Any]:
    wanted = [job.unique for job in jobs if job.unique is not None]
    return [
        [one.key for one in wanted],
        [one.window_s for one in wanted],
        [bool(one.states) for one in wanted],
        [text_array(one.states) for one in wanted],
        [one.on_conflict for one in wanted],
    ]


def lock_order(jobs: Sequence[NewJob]) -> list[int] | None:
    """The places of the jobs in the order of their ids, in which whoever knows them must store
    them; None if nobody else does, or they are in order."""
    if len(jobs) == 1 or all(job.is_secret for job in jobs):
        return None
    numbers = [job.id.int for job in jobs]
    order = sorted(range(len(jobs)), key=numbers.__getitem__)
    return None if order == list(range(len(jobs))) else order


def back_in_place(stored: Sequence[Stored], order: Sequence[int]) -> list[Stored]:
    placed = dict(zip(order, stored, strict=True))
    return [placed[place] for place in range(len(stored))]


def sparse(values: list[Any], default: Any = None) -> list[Any]:
    """Nothing where all are the default: encoding arrays is what a statement costs most."""
    return [] if values.count(default) == len(values) else values


def text_array(items: Sequence[str]) -> str:
    """The text of a Postgres array: arrays of arrays must not be ragged."""
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"


def _since(told: Sequence[UUID]) -> datetime | None:
    """Before this no job under one of these ids can have ended; None where an id does not tell.

    A v7 id tells when it was made, unless it claims to be of the future.
    """
    now = datetime.now(UTC)
    oldest_ms = now.timestamp() * 1000
    for identifier in told:
        made_ms = identifier.int >> 80
        if identifier.version != 7 or made_ms > now.timestamp() * 1000:
            return None
        oldest_ms = min(oldest_ms, made_ms)
    return datetime.fromtimestamp(oldest_ms / 1000, UTC) - A_DAY


def verdicts(jobs: Sequence[NewJob], row: asyncpg.Record) -> list[Stored]:
    """What store_jobs answered, job by job."""
    now, attempts, each, is_handed = row
    if each is not None:
        return [_told(*one) for one in each]
    return [
        Stored(
            Verdict.CREATED,
            job.id,
            _state(job, now),
            job.run_at or job.created_at or now,
            job.created_at or now,
            most,
            is_handed,
        )
        for job, most in zip(jobs, attempts, strict=True)
    ]


def _state(job: NewJob, now: datetime) -> str:
    if job.held:
        return "held"
    return "scheduled" if job.run_at is not None and job.run_at > now else "ready"


def _told(
    verdict: str, job_id: str, state: str | None, run_at: str | None, created_at: str | None,
    max_attempts: int | None,
) -> Stored:  # fmt: skip
    return Stored(Verdict(verdict), UUID(job_id), state, _time(run_at), _time(created_at),
                  max_attempts)  # fmt: skip


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def in_order(jobs: Sequence[NewJob], rows: Sequence[asyncpg.Record]) -> list[Stored]:
    """What the function answered, job by job. An id given twice is created once."""
    created: dict[UUID, Stored] = {}
    others: dict[int, Stored] = {}
    for place, verdict, identifier, *rest in rows:
        stored = Stored(Verdict(verdict), identifier, *rest)
        if place is None:
            created[identifier] = stored
        else:
            others[place - 1] = stored
    return [
        created.pop(job.id) if job.id in created else others[place]
        for place, job in enumerate(jobs)
    ]
