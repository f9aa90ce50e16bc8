"""Reading jobs and stopping them. `shop` is the caller's own: it is shown no other's jobs."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from chassis.kernel import deadline, errors
from chassis.kernel.coalesce import Coalescer
from queue_service.core.enqueue import other_shop
from queue_service.core.ports import Job, JobFilter, JobStore, Page, Position

CANCELLED = "cancelled"
# Read by one statement; a job may be a megabyte.
TOGETHER = 50


class Jobs:
    """`opened` shows what is sealed, to those who may read. Who reads at the same time reads by
    one statement, which begins after the last of them has asked."""

    def __init__(self, jobs: JobStore, *, opened: JobStore) -> None:
        self._jobs = jobs
        self._opened = opened
        self._read: Coalescer[UUID, Job | None] = Coalescer(self._read_many, items=TOGETHER)

    async def get(self, job_id: UUID, *, shop: str | None) -> Job:
        try:
            job = await self._read(job_id, within_s=deadline.budget_s(deadline.DEFAULT_S))
        except errors.Ambiguous:
            raise errors.Unavailable("not read in time", code="database_unavailable") from None
        return _shown(job, shop)

    async def _read_many(self, job_ids: Sequence[UUID]) -> list[Job | Exception | None]:
        try:
            found = await self._opened.many(job_ids)
        except errors.Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - its reader gets it
            if len(job_ids) == 1:
                return [error]
            # What cannot be read harms its own reader alone.
            return [one for job_id in job_ids for one in await self._read_many([job_id])]
        return [found.get(job_id) for job_id in job_ids]

    async def newest(
        self, wanted: JobFilter, *, shop: str | None, after: Position | None, limit: int
    ) -> Page:
        if shop is not None:
            if wanted.shop not in (None, shop):
                raise other_shop()
            wanted = replace(wanted, shop=shop)
        return await self._opened.newest(wanted, after=after, limit=limit)

    async def cancel(self, job_id: UUID, *, shop: str | None) -> Job:
        """What waits ends now, what runs is told to stop. Cancelling twice is cancelling once."""
        job = await self._jobs.get(job_id)
        if job is None:
            raise no_such_job()
        if shop is not None and job.shop != shop:
            raise other_shop("")
        told = await self._jobs.cancel(job.id)
        job = _shown(await self._jobs.get(job.id), shop)
        if told is None and job.state != CANCELLED:
            raise errors.Conflict(f"the job is {job.state}", code="job_finished")
        return job


def _shown(job: Job | None, shop: str | None) -> Job:
    if job is None or (shop is not None and job.shop != shop):
        raise no_such_job()
    return job


def no_such_job() -> errors.NotFound:
    return errors.NotFound("there is no job with this id")
