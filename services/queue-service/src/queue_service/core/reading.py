"""Reading jobs and stopping them. `shop` is the caller's own: it is shown no other's jobs."""

from dataclasses import replace
from uuid import UUID

from chassis.kernel import errors
from queue_service.core.enqueue import other_shop
from queue_service.core.ports import Job, JobFilter, JobStore, Page, Position

CANCELLED = "cancelled"


class Jobs:
    """`opened` shows what is sealed, to those who may read."""

    def __init__(self, jobs: JobStore, *, opened: JobStore) -> None:
        self._jobs = jobs
        self._opened = opened

    async def get(self, job_id: UUID, *, shop: str | None) -> Job:
        return await self._get(self._opened, job_id, shop)

    async def _get(self, jobs: JobStore, job_id: UUID, shop: str | None) -> Job:
        job = await jobs.get(job_id)
        if job is None or (shop is not None and job.shop != shop):
            raise no_such_job()
        return job

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
        job = await self._get(self._jobs, job.id, shop)
        if told is None and job.state != CANCELLED:
            raise errors.Conflict(f"the job is {job.state}", code="job_finished")
        return job


def no_such_job() -> errors.NotFound:
    return errors.NotFound("there is no job with this id")
