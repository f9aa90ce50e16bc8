"""A small client of the HTTP API, as the gateway serves it.

Every call may be repeated, and is: on 429, 502, 503, 504, a lost connection and no answer in time.
Ids are made here, so that a repeat is the same job or batch and never a second one. What is left
is an `errors.ApiError`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from mainstay import errors, uploads
from mainstay.answers import (
    Batch,
    EnqueueResults,
    Heartbeat,
    Job,
    LeasedJob,
    LeasedJobs,
    Marked,
    Page,
    Settlements,
    Uploaded,
)
from mainstay.ids import new_id as new_id  # noqa: PLC0414 - others take it from here
from mainstay.limit_settings import LimitSettings
from mainstay.operations import Id, JobFilter, Operations
from mainstay.ratelimits import RateLimits
from mainstay.sessions import Sessions
from mainstay.transport import Answered, Transport, step


class JobOptions(TypedDict, total=False):
    """What a job may say beside kind and args; absent means the queue's default."""

    queue: str
    shop: str | None
    run_at: datetime | None
    delay_s: float | None
    priority: int
    max_attempts: int | None
    timeout_s: float | None
    tags: Sequence[str]
    retry: Mapping[str, float] | None
    notify: bool
    unique: Mapping[str, Any] | None
    id: Id


class LeaseOptions(TypedDict, total=False):
    """What a lease call may say; absent means the service's default."""

    max: int
    lease_s: float
    worker: str | None
    request_id: str


class LeaseNext(LeaseOptions):
    """To lease in the same call that settles."""

    queue: str


class Client(Operations, RateLimits, LimitSettings, Sessions):
    """Use as `async with Client(base_url, api_key) as mainstay`.

    `timeout_s` bounds one try (an upload: `stall_timeout_s` without a byte moving), `attempts` the
    tries of a call. A refusal that asks for more than 30 s of patience is raised at once.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_s: float = 10.0,
        attempts: int = 5,
        stall_timeout_s: float = 60.0,
    ) -> None:
        self._transport = Transport(
            base_url,
            api_key,
            timeout_s=timeout_s,
            attempts=attempts,
            stall_timeout_s=stall_timeout_s,
        )

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    async def enqueue(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """The job, or one in state "accepted" that another road keeps until its owner is back.

        With `idempotency_key` the key decides what a repeat is, also between programs; without it
        the id does, which is made here unless you give one.
        """
        body = {"kind": kind, "args": dict(args or {}), **options}
        if idempotency_key is None:
            body.setdefault("id", new_id())
        answered = await self._transport.call(
            "POST", "/v1/jobs", body=body, idempotency_key=idempotency_key
        )
        return _job(answered)

    async def enqueue_batch(
        self, jobs: Iterable[Mapping[str, Any]], *, atomic: bool = False
    ) -> EnqueueResults:
        """Up to 1,000 jobs `{kind, args, …}`, a verdict for each; `atomic`: all or `Invalid`."""
        body = {"jobs": [{"id": new_id(), **job} for job in jobs], "atomic": atomic}
        answered = await self._transport.call("POST", "/v1/jobs:batch", body=body)
        return answered.answer(EnqueueResults)

    async def get_job(self, job_id: Id) -> Job:
        return _job(await self._transport.call("GET", f"/v1/jobs/{step(job_id)}"))

    async def list_jobs(
        self, *, limit: int = 50, cursor: str | None = None, **wanted: Unpack[JobFilter]
    ) -> Page[Job]:
        """Newest first; go on with `cursor=page.next_cursor`."""
        answered = await self._transport.call(
            "GET", "/v1/jobs", query={"limit": limit, "cursor": cursor, **wanted}
        )
        return answered.answer(Page[Job])

    async def cancel(self, job_id: Id) -> Job:
        """Raises `Conflict` when the job ended otherwise; a running one stops in a while."""
        try:
            answered = await self._transport.call("POST", f"/v1/jobs/{step(job_id)}:cancel")
        except errors.Conflict:
            job = await self.get_job(job_id)
            if job.state == "cancelled":
                return job
            raise
        return _job(answered)

    async def create_batch(
        self,
        name: str,
        kind: str,
        *,
        queue: str = "default",
        shop: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        on_complete: Mapping[str, Any] | None = None,
        hold: bool = False,
        id: Id | None = None,  # noqa: A002 - the name of the field
    ) -> Batch:
        """`defaults` is a job without kind and queue, `on_complete` a whole job."""
        body = {
            "id": id or new_id(),
            "name": name,
            "kind": kind,
            "queue": queue,
            "shop": shop,
            "defaults": dict(defaults or {}),
            "on_complete": on_complete,
            "hold": hold,
        }
        answered = await self._transport.call("POST", "/v1/batches", body=body)
        return answered.answer(Batch)

    async def upload_items(
        self,
        batch_id: Id,
        rows: uploads.Rows,
        *,
        source: str = "upload",
        format: uploads.Format | None = None,  # noqa: A002 - what people call it
        offset: int = 0,
        delimiter: str = ",",
        strict: bool = False,
    ) -> Uploaded:
        """Stream a file, bytes, an async iterable of bytes, or a list of items `{args, …}`.

        A row is known by (batch, `source`, row number): after a 503 or a lost connection the same
        rows are sent again and become no second job. An async *iterator* cannot be read again, so
        for it the error is raised: open it anew and call again with the same `source`.
        `format` is taken from the file's name, else csv; rows below `offset` are skipped.
        """
        answered = await self._transport.upload(
            f"/v1/batches/{step(batch_id)}/items",
            rows,
            content_type=uploads.CONTENT_TYPES[format or uploads.format_of(rows)],
            query={
                "source": source,
                "offset": offset or None,
                "delimiter": None if delimiter == "," else delimiter,
                "strict": strict or None,
            },
        )
        return answered.answer(Uploaded)

    async def close_batch(self, batch_id: Id) -> Batch:
        """No more items; may be called again."""
        try:
            answered = await self._transport.call("POST", f"/v1/batches/{step(batch_id)}:close")
        except errors.Conflict:
            batch = await self.get_batch(batch_id)
            if batch.state in ("closed", "finished"):
                return batch
            raise
        return answered.answer(Batch)

    async def get_batch(self, batch_id: Id) -> Batch:
        answered = await self._transport.call("GET", f"/v1/batches/{step(batch_id)}")
        return answered.answer(Batch)

    async def lease(
        self, queue: str, *, wait_s: float = 0.0, **options: Unpack[LeaseOptions]
    ) -> LeasedJobs:
        """Jobs of a queue that is pulled: up to `max` (10), yours for `lease_s` (60) seconds.

        Waits up to `wait_s` (30) for the first. An answer that is lost is asked for again and
        brings the same jobs.
        """
        body = {"request_id": str(new_id()), **options, "wait_ms": int(wait_s * 1000)}
        answered = await self._transport.call(
            "POST", f"/v1/queues/{step(queue)}:lease", body=body, wait_s=wait_s
        )
        return answered.answer(LeasedJobs)

    async def settle(
        self, outcomes: Iterable[Mapping[str, Any]], *, lease: LeaseNext | None = None
    ) -> Settlements:
        """Say how leased jobs ended (`job.completed(…)`, `job.failed(…)`, …), each by itself.

        `lease={"queue": …, "max": …}` leases the next ones in the same call.
        """
        body: dict[str, Any] = {"outcomes": list(outcomes)}
        if lease is not None:
            body["lease"] = {"request_id": str(new_id()), **lease}
        answered = await self._transport.call("POST", "/v1/leases:settle", body=body)
        return answered.answer(Settlements)

    async def release(self, jobs: Iterable[LeasedJob]) -> Settlements:
        """Give back jobs that were not started: at once, their attempts unspent."""
        answered = await self._transport.call(
            "POST", "/v1/leases:release", body={"leases": [job.held for job in jobs]}
        )
        return answered.answer(Settlements)

    async def heartbeat(
        self, leases: Iterable[Mapping[str, Any]], *, extend_s: float | None = None
    ) -> Heartbeat:
        """Keep leases (`job.held`, with a `progress` if there is news) for `extend_s` from now, or
        for as long as they were leased."""
        body = {"leases": list(leases), "extend_s": extend_s}
        answered = await self._transport.call("POST", "/v1/leases:heartbeat", body=body)
        return answered.answer(Heartbeat)

    async def mark(self, job: LeasedJob, name: str) -> bool:
        """Leave a durable mark before an outside effect; False if an earlier lease left it. Raises
        `Conflict` when the lease is lost."""
        body = {**job.held, "name": name}
        return (await self._transport.call("POST", "/v1/leases:mark", body=body)).read(Marked).first

    async def system(self) -> dict[str, Any]:
        """Services, roads, dependencies, and what users can still do."""
        return (await self._transport.call("GET", "/v1/system")).read(dict[str, Any])


def _job(answered: Answered) -> Job:
    replayed = answered.headers.get("Idempotent-Replay") == "true"
    return answered.answer(Job, replayed=replayed)
