"""Jobs that running jobs make: judged like a caller's, stored like one's, under ids of their own
names. The first to say a name decides what it is; a repeat in a later attempt changes nothing."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import pydantic

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from contracts import jobs as wire
from mainstay import children, flaws, handler
from queue_service.core.enqueue import due_at
from queue_service.core.jobs import Intake, NewJob, Stored, Verdict
from queue_service.core.unique import unique_of

# The same whatever is said under a name, so that a repeat is one: what was said first stays.
FINGERPRINT = "child"
_WHY = {
    Verdict.UNKNOWN_QUEUE: "queue: there is no such queue",
    Verdict.UNIQUE_CONFLICT: "unique: there is another one already",
    Verdict.ID_TAKEN: "name: it stands for another job",
}


class Children:
    def __init__(self, *, intake: Intake, clock: Clock) -> None:
        self._intake = intake
        self._clock = clock

    async def put(self, parent: handler.JobInfo, jobs: Sequence[children.NewJob]) -> list[UUID]:
        """All or none; raises mainstay's Refused and Unavailable."""
        now = self._clock.now()
        try:
            stored = await self._intake.put_all(_judged(parent, jobs, now))
        except errors.Unavailable as error:
            raise handler.Unavailable(error.detail) from error
        if wrong := {n: _why(one) for n, one in enumerate(stored) if not one.is_good}:
            raise handler.Refused(wrong)
        return [one.id for one in stored]


def _judged(
    parent: handler.JobInfo, jobs: Sequence[children.NewJob], now: datetime
) -> list[NewJob]:
    made: list[NewJob] = []
    wrong: dict[int, str] = {}
    for place, job in enumerate(jobs):
        try:
            said = wire.JobCreate.model_validate(job.document())
        except pydantic.ValidationError as error:
            wrong[place] = "; ".join(map(str, flaws.flaws_of(error)))
            continue
        if (flaw := children.args_flaw(said.args)) is not None:
            wrong[place] = flaw
        else:
            made.append(_made(parent, job.name, said, now))
    if wrong:
        raise handler.Refused(wrong)
    return made


def _made(parent: handler.JobInfo, name: str, said: wire.JobCreate, now: datetime) -> NewJob:
    shop = said.shop or parent.shop
    return NewJob(
        id=children.child_id(parent.id, parent.created_at, name),
        kind=said.kind,
        queue=said.queue,
        args=said.args,
        fingerprint=FINGERPRINT,
        shop=shop,
        priority=said.priority,
        run_at=due_at(said, now),
        max_attempts=said.max_attempts,
        timeout_s=said.timeout_s,
        tags=said.tags,
        retry=said.retry.model_dump() if said.retry is not None else None,
        notify=said.notify,
        unique=unique_of(said, shop=shop),
    )


def _why(stored: Stored) -> str:
    return _WHY.get(stored.verdict, str(stored.verdict))
