"""Of what is stored, that alone is told which an idle worker could start now."""

from collections.abc import Sequence
from uuid import UUID

from chassis.kernel import ids
from queue_service.core.dispatch import Announced, Backend, Switch
from queue_service.core.jobs import NewJob, Stored, Verdict


def job(queue: str = "q") -> NewJob:
    return NewJob(id=ids.new_id(), kind="k", queue=queue, args={}, fingerprint="f")


class Intake:
    """Answers what it was told to answer."""

    def __init__(self, *stored: Stored) -> None:
        self._stored = stored

    async def put(self, _jobs: Sequence[NewJob]) -> Sequence[Stored]:
        return self._stored

    async def put_all(self, _jobs: Sequence[NewJob]) -> Sequence[Stored]:
        return self._stored


class Told(dict[str, list[UUID]]):
    def announce(self, queue: str, job_ids: Sequence[UUID]) -> None:
        self[queue] = list(job_ids)


async def test_jobs_that_can_start_are_told_by_queue() -> None:
    jobs, told = [job("a"), job("b"), job("a")], Told()
    stored = [Stored(Verdict.CREATED, one.id, "ready") for one in jobs]
    assert await Announced(Intake(*stored), [told]).put(jobs) == tuple(stored)
    assert told == {"a": [jobs[0].id, jobs[2].id], "b": [jobs[1].id]}


async def test_what_is_old_or_not_due_or_handed_over_already_is_not_told() -> None:
    jobs, told = [job() for _ in range(4)], Told()
    stored = [
        Stored(Verdict.EXISTING, jobs[0].id, "ready"),
        Stored(Verdict.CREATED, jobs[1].id, "scheduled"),
        Stored(Verdict.CREATED, jobs[2].id, "held"),
        Stored(Verdict.CREATED, jobs[3].id, "ready", is_handed=True),
    ]
    await Announced(Intake(*stored), [told]).put(jobs)
    assert told == {}


async def test_nothing_is_told_of_a_call_that_was_undone() -> None:
    jobs, told = [job(), job()], Told()
    stored = [
        Stored(Verdict.CREATED, jobs[0].id, "ready"),
        Stored(Verdict.UNKNOWN_QUEUE, jobs[1].id),
    ]
    await Announced(Intake(*stored), [told]).put_all(jobs)
    assert told == {}


def test_a_switch_tells_of_changes_alone() -> None:
    said: list[Backend] = []
    switch = Switch(on_switch=said.append)
    for answers in (False, True, True, False, False):
        switch.saw(answers)
    assert said == [Backend.REDIS, Backend.POSTGRES]
