"""What an operator asks of jobs that are there: again, now, and all that match.

By filter the answer comes at once, with how many match; a stored request is then applied in bounded
steps, whoever does them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from chassis.kernel import errors, ids
from queue_service.core.batches import Batches, Wake
from queue_service.core.enqueue import key_reused, other_shop
from queue_service.core.ports import Job, JobFilter, JobStore
from queue_service.core.reading import no_such_job

STARTED = frozenset({"ready", "running"})


class Verb(StrEnum):
    CANCEL = "cancel"
    RETRY = "retry"
    REDACT = "redact"


# What each can be done to.
STATES = {
    Verb.CANCEL: ("held", "scheduled", "ready", "running", "retrying"),
    Verb.RETRY: ("failed", "cancelled"),
    Verb.REDACT: (
        "held",
        "scheduled",
        "ready",
        "running",
        "retrying",
        "completed",
        "failed",
        "cancelled",
        "rejected",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A verb for all jobs in `states` that match and are there when it is asked.

    `fingerprint` tells a repeat from another request under the same id.
    """

    id: UUID
    verb: Verb
    wanted: JobFilter
    states: Sequence[str]
    fingerprint: str = ""


class VerbStore(Protocol):
    async def retry(self, job_id: UUID) -> bool:
        """False: it is none that can be retried."""
        ...

    async def run_now(self, job_id: UUID) -> None: ...

    async def is_of_cancelled_batch(self, job_id: UUID) -> bool: ...

    async def count(self, wanted: JobFilter, states: Sequence[str]) -> int: ...

    async def ask(self, sweep: Sweep, *, matched: int) -> tuple[int, str]:
        """(matched, fingerprint) of what is stored under the id: this, or what was there. What a
        shop that is to be forgotten has beside jobs goes at once."""
        ...


class Sweeps(Protocol):
    async def open(self, *, limit: int) -> Sequence[UUID]: ...

    async def step(self, sweep_id: UUID, *, looked_at: int) -> bool:
        """Have the verb done to the next jobs; True if there are more. False, too, while another
        process is at it."""
        ...


class Verbs:
    """`shop` is the caller's own: it can do nothing to another's jobs."""

    def __init__(
        self, *, jobs: JobStore, verbs: VerbStore, batches: Batches, sweep_soon: Wake
    ) -> None:
        self._jobs = jobs
        self._verbs = verbs
        self._batches = batches
        self._sweep_soon = sweep_soon

    async def retry(self, job_id: UUID, *, shop: str | None) -> Job:
        job = await self._own(job_id, shop)
        if await self._verbs.retry(job.id):
            return await self._own(job.id, shop)
        job = await self._own(job.id, shop)
        why = f"the job is {job.state}"
        if job.state in STATES[Verb.RETRY]:
            why = "nothing is kept of what it was to do"
            if await self._verbs.is_of_cancelled_batch(job.id):
                why = "its batch was cancelled"
        raise errors.Conflict(why, code="job_not_retryable")

    async def run_now(self, job_id: UUID, *, shop: str | None) -> Job:
        """What waits for its time has come. Asking twice is asking once."""
        job = await self._own(job_id, shop)
        await self._verbs.run_now(job.id)
        job = await self._own(job.id, shop)
        if job.state == "held":
            raise errors.Conflict("its batch is paused: resume that")
        if job.state not in STARTED:
            raise errors.Conflict(f"the job is {job.state}", code="job_finished")
        return job

    async def _own(self, job_id: UUID, shop: str | None) -> Job:
        job = await self._jobs.get(job_id)
        if job is None:
            raise no_such_job()
        if shop is not None and job.shop != shop:
            raise other_shop("")
        return job

    async def sweep(self, asked: Sweep, *, shop: str | None, dry_run: bool) -> int:
        """How many match now."""
        sweep = _narrowed(asked, shop)
        matched = await self._verbs.count(sweep.wanted, sweep.states)
        if dry_run:
            return matched
        return await self._ask(sweep, matched)

    async def retry_failed(self, batch_id: UUID, *, shop: str | None) -> None:
        """The failed jobs of a batch, in place: its counters go back, and it ends again in
        silence."""
        batch = await self._batches.get(batch_id, shop=shop)
        if batch.cancelled_at is not None:
            raise errors.Conflict("the batch is cancelled")
        wanted = JobFilter(batch_id=batch.id, state="failed", since=batch.created_at)
        sweep = Sweep(id=ids.new_id(), verb=Verb.RETRY, wanted=wanted, states=("failed",))
        await self._ask(sweep, batch.failed)

    async def forget_shop(self, named: str, *, shop: str | None) -> int:
        """Its jobs end, and nothing is kept of what they were. How many there are."""
        if shop not in (None, named):
            raise other_shop("")
        sweep = _redaction(ids.new_id(), JobFilter(shop=named))
        return await self._ask(sweep, await self._verbs.count(sweep.wanted, sweep.states))

    async def redact_shop(self, named: str, *, before: datetime, event_id: UUID) -> None:
        """As `forget_shop`, of what came before, when an event asks for it; the same event again
        asks for nothing more."""
        sweep_id = ids.derived_id("redact", str(event_id))
        await self._ask(_redaction(sweep_id, JobFilter(shop=named, until=before)), 0)

    async def _ask(self, sweep: Sweep, matched: int) -> int:
        matched, fingerprint = await self._verbs.ask(sweep, matched=matched)
        if fingerprint != sweep.fingerprint:
            raise key_reused()
        self._sweep_soon()
        return matched


def _redaction(sweep_id: UUID, wanted: JobFilter) -> Sweep:
    return Sweep(id=sweep_id, verb=Verb.REDACT, wanted=wanted, states=STATES[Verb.REDACT])


def _narrowed(asked: Sweep, shop: str | None) -> Sweep:
    wanted = asked.wanted
    if shop is not None:
        if wanted.shop not in (None, shop):
            raise other_shop("/filter/shop")
        wanted = replace(wanted, shop=shop)
    if wanted.state is None:
        return replace(asked, wanted=wanted)
    if wanted.state not in asked.states:
        detail = f"{asked.verb} takes jobs that are {', '.join(asked.states)}"
        raise errors.Invalid(
            f"/filter/state: {detail}", flaws=[errors.Flaw("/filter/state", detail)]
        )
    return replace(asked, wanted=wanted, states=(wanted.state,))
