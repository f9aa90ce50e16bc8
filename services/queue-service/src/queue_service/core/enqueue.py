"""Taking jobs in, from whichever road they come: one, many, or what a caller was promised already.

A job is stored once under its id however often it arrives. What cannot be stored is refused by
name; when its caller has been told 202 already, it becomes a `rejected` job instead, which the
caller can read.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis.kernel import canonical, deadline, errors, ids
from chassis.kernel.clock import Clock
from contracts import commands, sizes
from contracts import jobs as wire
from queue_service.core.jobs import Intake, NewJob, Stored, Verdict
from queue_service.core.ports import Job, JobStore, Rejection
from queue_service.core.unique import unique_of

# No Idempotency-Key that came in a header can hold it: the gateway marks places the same way.
PLACE_MARK = "\x1f"
A_DAY = timedelta(days=1)
QUEUE_POINTER = "/queue"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one. Without job and fault: nothing was wrong with it, but with another of an
    all-or-nothing call. `is_merged`: its own id stands for the job too."""

    id: UUID
    job: Job | None = None
    is_new: bool = False
    is_merged: bool = False
    fault: errors.Fault | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What a request adds to its jobs. `shop` is the caller's own, `key` the Idempotency-Key,
    `size` that of the body in bytes: most are smaller than what one job's args may be."""

    now: datetime
    shop: str | None
    key: str | None
    size: int


def require_fitting(said: wire.JobCreate, stamp: Stamp) -> None:
    """What the model cannot know of a caller's job. Denied or Invalid, by pointer."""
    if stamp.shop is not None and said.shop not in (None, stamp.shop):
        raise other_shop()
    if sizes.are_too_large(said.args, said_bytes=stamp.size):
        detail = f"over {wire.MAX_ARGS_BYTES} bytes"
        raise errors.Invalid(f"/args: {detail}", flaws=[errors.Flaw("/args", detail)])


def new_job(said: wire.JobCreate, document: Mapping[str, Any], stamp: Stamp) -> NewJob:
    """A job as a caller said it; `document` is the same as plain JSON."""
    require_fitting(said, stamp)
    return _stamped(said, _print_of(document), stamp, stamp.key)


def new_jobs(
    said: Mapping[int, wire.JobCreate], document: Mapping[str, Any], stamp: Stamp
) -> dict[int, NewJob]:
    """The fitting ones of a `jobs:batch`, by their place. Under a key each place has a key of its
    own and the print of the whole, so that another body is noticed wherever it differs."""
    documents = document["jobs"]
    if stamp.key is None:
        return {
            place: _stamped(job, _print_of(documents[place]), stamp, None)
            for place, job in said.items()
        }
    whole = canonical.fingerprint({**document, "jobs": [_without_id(one) for one in documents]})
    return {
        place: _stamped(job, whole, stamp, f"{stamp.key}{PLACE_MARK}{place}")
        for place, job in said.items()
    }


def commanded(accepted: commands.AcceptedJob) -> NewJob:
    """A job as the gateway hands it over."""
    return _new(
        accepted.job,
        id=accepted.id,
        shop=accepted.job.shop,
        fingerprint=accepted.fingerprint,
        scope=accepted.scope,
        key=accepted.key,
        now=accepted.accepted_at,
        created_at=accepted.accepted_at,
    )


def derived(said: wire.JobCreate, *, id: UUID, shop: str | None, now: datetime) -> NewJob:  # noqa: A002
    """A job of our own making, under an id that comes out the same whoever makes it."""
    document = said.model_dump(mode="json", exclude_unset=True)
    return _new(said, id=id, shop=shop, fingerprint=_print_of(document), now=now)


def _stamped(said: wire.JobCreate, fingerprint: str, stamp: Stamp, key: str | None) -> NewJob:
    scope = stamp.shop or said.shop or ""
    identifier = said.id or (
        ids.derived_id("job", scope, key, fingerprint) if key is not None else ids.new_id()
    )
    return _new(
        said,
        id=identifier,
        shop=said.shop or stamp.shop,
        fingerprint=fingerprint,
        scope=scope,
        key=key,
        now=stamp.now,
        created_at=None,
        is_secret=said.id is None and key is None,
    )


def _new(said: wire.JobCreate, *, now: datetime, shop: str | None, **rest: Any) -> NewJob:
    return NewJob(
        shop=shop,
        unique=unique_of(said, shop=shop),
        kind=said.kind,
        queue=said.queue,
        args=said.args,
        priority=said.priority,
        run_at=due_at(said, now),
        max_attempts=said.max_attempts,
        timeout_s=said.timeout_s,
        tags=said.tags,
        retry=said.retry.model_dump() if said.retry is not None else None,
        notify=said.notify,
        **rest,
    )


def due_at(said: wire.JobSpec, now: datetime) -> datetime | None:
    """When it may start; None: at once."""
    if said.delay_s is not None:
        return now + timedelta(seconds=said.delay_s)
    return said.run_at


def _print_of(document: Any) -> str:
    return canonical.fingerprint(_without_id(document))


def _without_id(document: Any) -> Any:
    """The id names the job, it is not part of what is asked."""
    return {name: value for name, value in document.items() if name != "id"}


class Enqueue:
    """`remembered` is how long a settled job is surely known by its id: an older promise could run
    a second time, so it is not taken."""

    def __init__(
        self, *, intake: Intake, jobs: JobStore, clock: Clock, remembered: timedelta
    ) -> None:
        self._intake = intake
        self._jobs = jobs
        self._clock = clock
        self._remembered = remembered

    async def one(self, new: NewJob) -> Outcome:
        (outcome,) = await self.many([new])
        if outcome.fault is not None:
            raise outcome.fault
        return outcome

    async def many(self, jobs: Sequence[NewJob]) -> list[Outcome]:
        """Each by itself, in order."""
        return await self._outcomes(jobs, await _in_time(self._intake.put(jobs)))

    async def all(self, jobs: Sequence[NewJob]) -> list[Outcome]:
        """All, or none: then those that were wrong have a fault."""
        stored = await self._put_all(jobs)
        if all(one.is_good for one in stored):
            return await self._outcomes(jobs, stored)
        return [
            Outcome(job.id, fault=_fault_of(job, one, f"/jobs/{place}{QUEUE_POINTER}"))
            for place, (job, one) in enumerate(zip(jobs, stored, strict=True))
        ]

    async def keyed(self, jobs: Sequence[NewJob]) -> list[Outcome]:
        """The good ones of a call under one key, together: when the key stands for another call,
        Invalid is raised and nothing of this one is stored."""
        stored: dict[int, Stored] = {}
        left = list(range(len(jobs)))
        while left:
            found = dict(zip(left, await self._put_all([jobs[n] for n in left]), strict=True))
            if any(one.verdict is Verdict.KEY_REUSED for one in found.values()):
                raise key_reused()
            wrong = {place: one for place, one in found.items() if not one.is_good}
            stored |= wrong or found
            left = [place for place in left if place not in wrong] if wrong else []
        return await self._outcomes(jobs, [stored[place] for place in range(len(jobs))])

    async def promised(self, jobs: Sequence[NewJob]) -> list[Outcome]:
        """Each by itself; what is wrong is kept as `rejected`. So is what was promised to a shop
        that has been forgotten since, without anything of what it was."""
        forgotten = await self._jobs.forgotten({job.shop for job in jobs if job.shop})
        oldest = self._clock.now() - self._remembered
        refused: dict[int, Outcome] = {}
        for place, job in enumerate(jobs):
            if job.created_at is not None and job.created_at <= oldest:
                refused[place] = _too_old(job)
            elif _is_forgotten(job, forgotten):
                refused[place] = _of_forgotten(job)
        fresh = [job for place, job in enumerate(jobs) if place not in refused]
        found = iter(await self.many(fresh) if fresh else [])
        outcomes = [
            refused.get(place) or _kept_promise(job, next(found)) for place, job in enumerate(jobs)
        ]
        await self._reject(
            [
                (_emptied(job) if _is_forgotten(job, forgotten) else job, one.fault)
                for job, one in zip(jobs, outcomes, strict=True)
                if one.fault
            ]
        )
        return outcomes

    async def _reject(self, wrong: Sequence[tuple[NewJob, errors.Fault]]) -> None:
        if wrong:
            await self._jobs.reject(
                [Rejection(job, fault.code, fault.detail) for job, fault in wrong]
            )

    async def unreadable(self, wrong: Sequence[tuple[NewJob, errors.Fault]]) -> None:
        """Promised jobs of which only the id can be read."""
        await self._reject(wrong)

    async def _put_all(self, jobs: Sequence[NewJob]) -> Sequence[Stored]:
        return await _in_time(self._intake.put_all(jobs))

    async def _outcomes(self, jobs: Sequence[NewJob], stored: Sequence[Stored]) -> list[Outcome]:
        known = [one.id for one in stored if one.verdict in (Verdict.EXISTING, Verdict.MERGED)]
        before = await self._jobs.many(known) if known else {}
        return [
            _outcome(job, one, before.get(one.id)) for job, one in zip(jobs, stored, strict=True)
        ]


async def _in_time(work: Awaitable[Sequence[Stored]]) -> Sequence[Stored]:
    """Nobody waits for a commit longer than the caller does."""
    try:
        async with asyncio.timeout(deadline.budget_s(deadline.DEFAULT_S)):
            return await work
    except TimeoutError:
        raise errors.Ambiguous("not known to be stored in time; repeat with the same id") from None


def _outcome(job: NewJob, stored: Stored, before: Job | None) -> Outcome:
    match stored.verdict:
        case Verdict.CREATED:
            return Outcome(stored.id, job=_as_stored(job, stored), is_new=True)
        case Verdict.EXISTING | Verdict.MERGED if before is not None:
            return Outcome(before.id, job=before, is_merged=stored.verdict is Verdict.MERGED)
        case Verdict.EXISTING | Verdict.MERGED:
            gone = errors.Conflict(
                f"the key stands for the job {stored.id}, which has ended and is no longer kept",
                code="job_finished",
            )
            return Outcome(stored.id, fault=gone)
        case _:
            return Outcome(stored.id, fault=_fault_of(job, stored, QUEUE_POINTER))


def _fault_of(job: NewJob, stored: Stored, pointer: str) -> errors.Fault | None:
    match stored.verdict:
        case Verdict.ID_TAKEN:
            return errors.Conflict("the id belongs to another job", code="id_taken")
        case Verdict.KEY_REUSED:
            return key_reused()
        case Verdict.UNKNOWN_QUEUE:
            return unknown_queue(job.queue, pointer)
        case Verdict.UNIQUE_CONFLICT:
            return errors.Conflict(
                f"the job {stored.id} is the same and was there first", code="unique_conflict"
            )
        case _:
            return None


def _kept_promise(job: NewJob, outcome: Outcome) -> Outcome:
    """Under the promised id there must be something to read."""
    if outcome.fault is not None and outcome.fault.code == "idempotency_key_reused":
        detail = f"the Idempotency-Key stands for the job {outcome.id}, which has another body"
        return Outcome(job.id, fault=errors.Invalid(detail, code=outcome.fault.code))
    if outcome.is_merged:
        return outcome
    if outcome.fault is None and outcome.id != job.id:
        detail = f"the Idempotency-Key stands for the job {outcome.id}, which is the same"
        return Outcome(job.id, fault=errors.Conflict(detail))
    return Outcome(job.id, job=outcome.job, is_new=outcome.is_new, fault=outcome.fault)


def _is_forgotten(job: NewJob, forgotten: Mapping[str, datetime]) -> bool:
    before = forgotten.get(job.shop or "")
    return before is not None and job.created_at is not None and job.created_at <= before


def _of_forgotten(job: NewJob) -> Outcome:
    detail = "its shop was to be forgotten before it arrived; nothing was done"
    return Outcome(job.id, fault=errors.Invalid(detail))


def _emptied(job: NewJob) -> NewJob:
    return job._replace(args={}, tags=())


def _too_old(job: NewJob) -> Outcome:
    detail = "it arrived so late that nobody can tell whether it has run; nothing was done"
    return Outcome(job.id, fault=errors.Invalid(detail))


def _as_stored(job: NewJob, stored: Stored) -> Job:
    assert stored.state is not None
    assert stored.run_at is not None
    assert stored.created_at is not None
    assert stored.max_attempts is not None
    return Job(
        id=stored.id,
        queue=job.queue,
        kind=job.kind,
        shop=job.shop,
        state=stored.state,
        priority=job.priority,
        attempt=0,
        max_attempts=stored.max_attempts,
        args=job.args,
        run_at=stored.run_at,
        created_at=stored.created_at,
        batch_id=job.batch_id,
        tags=job.tags,
    )


def other_shop(pointer: str = "/shop") -> errors.Denied:
    return errors.Denied(
        "this key belongs to another shop",
        code="other_shop",
        flaws=[errors.Flaw(pointer, "another shop than the key's")],
    )


def key_reused() -> errors.Invalid:
    return errors.Invalid(
        "this Idempotency-Key was used with another body", code="idempotency_key_reused"
    )


def unknown_queue(name: str, pointer: str) -> errors.Invalid:
    detail = f"there is no queue {name}"
    return errors.Invalid(detail, code="unknown_queue", flaws=[errors.Flaw(pointer, detail)])
