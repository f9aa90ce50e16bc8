"""What an operator does to jobs, queues, batches, schedules and push handlers: part of `Client`."""

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict, TypeVar, Unpack
from uuid import UUID

from mainstay import errors
from mainstay.answers import Answer, Batch, Job, Matched, Page, PushHandler, Queue, Schedule
from mainstay.transport import Transport, step

Id = UUID | str
A = TypeVar("A", bound=Answer)

FINAL = frozenset({"completed", "failed", "cancelled", "rejected"})


class JobFilter(TypedDict, total=False):
    """Which jobs; all of what is said must be so."""

    queue: str
    state: str
    shop: str
    kind: str
    tag: str
    batch_id: Id
    since: datetime
    until: datetime


class QueueSettings(TypedDict, total=False):
    """What is absent stays as it is; None lifts a limit."""

    served_by: str
    max_age_s: float | None
    concurrency: int
    global_limit: int | None
    per_shop_limit: int | None
    max_attempts: int
    timeout_s: float
    retry: Mapping[str, float]
    weights: Mapping[str, float]
    sealed: bool
    drop_on_finish: bool


class ScheduleOptions(TypedDict, total=False):
    """`missed` is skip, last or all, `overlap` allow or skip."""

    timezone: str
    missed: str
    overlap: str
    enabled: bool


class HandlerOptions(TypedDict, total=False):
    secret: str
    timeout_s: float
    max_in_flight: int


class Operations:
    _transport: Transport

    async def retry(self, job_id: Id) -> Job:
        """A failed or cancelled job runs again; one that is live already is as you want it.
        Raises `Conflict` for one that cannot."""
        try:
            return await self._post(Job, f"/v1/jobs/{step(job_id)}:retry")
        except errors.Conflict:
            job = await self._get(Job, f"/v1/jobs/{step(job_id)}")
            if job.state not in FINAL:
                return job
            raise

    async def run_now(self, job_id: Id) -> Job:
        """What waits for its time has come. Raises `Conflict` when it has ended, or is held."""
        return await self._post(Job, f"/v1/jobs/{step(job_id)}:run-now")

    async def cancel_jobs(self, *, dry_run: bool = False, **wanted: Unpack[JobFilter]) -> int:
        """How many match now; they are cancelled in the background, newer ones are spared."""
        return await self._sweep("cancel", dry_run, wanted)

    async def retry_jobs(self, *, dry_run: bool = False, **wanted: Unpack[JobFilter]) -> int:
        """How many failed and cancelled ones match now; they run again, in the background."""
        return await self._sweep("retry", dry_run, wanted)

    async def forget_shop(self, shop: str) -> int:
        """End a shop's jobs and forget what they were, in the background; how many there are."""
        answered = await self._transport.call("DELETE", f"/v1/shops/{step(shop)}/jobs")
        return answered.answer(Matched).matched

    async def list_queues(self, *, limit: int = 50, cursor: str | None = None) -> Page[Queue]:
        return await self._page(Page[Queue], "/v1/queues", limit, cursor)

    async def get_queue(self, name: str) -> Queue:
        return await self._get(Queue, f"/v1/queues/{step(name)}")

    async def put_queue(self, name: str, **settings: Unpack[QueueSettings]) -> Queue:
        """Make it, or change what is said; a new one is pulled unless `served_by` says else."""
        return await self._put(Queue, f"/v1/queues/{step(name)}", settings)

    async def delete_queue(self, name: str) -> None:
        """Raises `Conflict` while it holds jobs. One that is not there is as you want it."""
        await self._delete(f"/v1/queues/{step(name)}")

    async def pause_queue(self, name: str) -> Queue:
        """What runs goes on; nothing else starts."""
        return await self._post(Queue, f"/v1/queues/{step(name)}:pause")

    async def resume_queue(self, name: str) -> Queue:
        return await self._post(Queue, f"/v1/queues/{step(name)}:resume")

    async def list_batches(self, *, limit: int = 50, cursor: str | None = None) -> Page[Batch]:
        """Newest first."""
        return await self._page(Page[Batch], "/v1/batches", limit, cursor)

    async def pause_batch(self, batch_id: Id) -> Batch:
        return await self._post(Batch, f"/v1/batches/{step(batch_id)}:pause")

    async def resume_batch(self, batch_id: Id) -> Batch:
        """Also starts what was opened with `hold`."""
        return await self._post(Batch, f"/v1/batches/{step(batch_id)}:resume")

    async def cancel_batch(self, batch_id: Id) -> Batch:
        """What waits is cancelled, what runs is told to stop."""
        return await self._post(Batch, f"/v1/batches/{step(batch_id)}:cancel")

    async def retry_failed(self, batch_id: Id) -> Batch:
        """Its failed jobs run again, in the background; it ends again in silence."""
        return await self._post(Batch, f"/v1/batches/{step(batch_id)}:retry-failed")

    async def put_schedule(
        self, name: str, cron: str, job: Mapping[str, Any], **options: Unpack[ScheduleOptions]
    ) -> Schedule:
        """The whole schedule; `job` is `{kind, args, …}` without id and time."""
        said = {"cron": cron, "job": dict(job), **options}
        return await self._put(Schedule, f"/v1/schedules/{step(name)}", said)

    async def get_schedule(self, name: str) -> Schedule:
        return await self._get(Schedule, f"/v1/schedules/{step(name)}")

    async def list_schedules(self, *, limit: int = 50, cursor: str | None = None) -> Page[Schedule]:
        return await self._page(Page[Schedule], "/v1/schedules", limit, cursor)

    async def delete_schedule(self, name: str) -> None:
        """The jobs of its fires stay. One that is not there is as you want it."""
        await self._delete(f"/v1/schedules/{step(name)}")

    async def put_handler(
        self, kind: str, url: str, **options: Unpack[HandlerOptions]
    ) -> PushHandler:
        """Have a kind run by a URL. A `secret` that is made for it is told in this answer alone:
        if that may be lost, give one."""
        return await self._put(PushHandler, f"/v1/handlers/{step(kind)}", {"url": url, **options})

    async def get_handler(self, kind: str) -> PushHandler:
        return await self._get(PushHandler, f"/v1/handlers/{step(kind)}")

    async def delete_handler(self, kind: str) -> None:
        """One that is not there is as you want it."""
        await self._delete(f"/v1/handlers/{step(kind)}")

    async def _get(self, model: type[A], path: str) -> A:
        return (await self._transport.call("GET", path)).answer(model)

    async def _post(self, model: type[A], path: str) -> A:
        return (await self._transport.call("POST", path)).answer(model)

    async def _put(self, model: type[A], path: str, body: Mapping[str, Any]) -> A:
        return (await self._transport.call("PUT", path, body=body)).answer(model)

    async def _page(self, model: type[A], path: str, limit: int, cursor: str | None) -> A:
        query = {"limit": limit, "cursor": cursor}
        return (await self._transport.call("GET", path, query=query)).answer(model)

    async def _delete(self, path: str) -> None:
        try:
            await self._transport.call("DELETE", path)
        except errors.NotFound:
            return

    async def _sweep(self, verb: str, dry_run: bool, wanted: JobFilter) -> int:
        """Under a key of its own, so that a repeat is the same request."""
        answered = await self._transport.call(
            "POST",
            f"/v1/jobs:{verb}",
            body={"filter": dict(wanted), "dry_run": dry_run},
            idempotency_key=secrets.token_urlsafe(16),
        )
        return answered.answer(Matched).matched
