"""A job in the hands of a worker that pulls, and what its handler may use."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import aiohttp

from mainstay import errors, handler
from mainstay.answers import LeasedJob
from mainstay.attempts import LeaseLost
from mainstay.client import Client
from mainstay.handler import Delivery, Handler, JobInfo, Reservation

log = logging.getLogger("mainstay.handler")

PROGRESS_EVERY_S = 1.0
MAX_PROGRESS_BYTES = 64 * 1024


def size_of(value: Any, limit: int) -> int:
    """Bytes of it as JSON. ValueError or TypeError when it is none, or longer."""
    size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    if size > limit:
        raise ValueError(f"{size} bytes of JSON, {limit} at most")
    return size


class Hold:
    """`until` is the end of the lease by our own clock; `progress` is news that nobody has been
    told yet."""

    def __init__(self, job: LeasedJob, until: float) -> None:
        self.job = job
        self.until = until
        self.is_running = True
        self.is_lost = False
        self.cancelled = asyncio.Event()
        self.progress: dict[str, Any] | None = None

    def lose(self) -> None:
        """Somebody else may have it by now: no result will be accepted."""
        self.is_lost = True
        self.cancelled.set()

    def beat(self) -> dict[str, Any]:
        return {**self.job.held, "progress": self.progress}

    def told(self, progress: dict[str, Any] | None) -> None:
        if self.progress is progress:
            self.progress = None


class PulledContext:
    """A `Context` over HTTP."""

    def __init__(
        self,
        hold: Hold,
        of: Handler[Any],
        *,
        client: Client,
        http: aiohttp.ClientSession,
        environ: Mapping[str, str],
        clock: Callable[[], float],
    ) -> None:
        job = hold.job
        self.job = _info(job)
        self.http = http
        self.environ = environ
        self.log = logging.LoggerAdapter(log, {"job_id": str(job.id), "kind": job.kind})
        self._hold = hold
        self._delivery = of.delivery
        self._client = client
        self._clock = clock
        self._ends_at = clock() + of.timeout_s
        self._names: set[str] = set()
        self._progress_at = 0.0

    @property
    def cancelled(self) -> asyncio.Event:
        return self._hold.cancelled

    def remaining_s(self) -> float:
        return max(0.0, self._ends_at - self._clock())

    async def once(self, name: str) -> bool:
        if name in self._names:
            raise ValueError(f"once({name!r}) twice in one attempt: give each effect its name")
        self._names.add(name)
        self._require_lease()
        try:
            is_first = await self._client.mark(self._hold.job, name)
        except errors.Conflict:
            self._hold.lose()
            raise LeaseLost from None
        self._require_lease()  # the answer may have been long on its way
        if not is_first and self._delivery is Delivery.AT_MOST_ONCE:
            raise handler.Ambiguous(f"an earlier attempt may have done {name!r}")
        return is_first

    async def progress(self, value: Mapping[str, Any]) -> None:
        """Told at most once a second; what is held back goes with the next heartbeat, or when the
        job is settled."""
        size_of(value, MAX_PROGRESS_BYTES)
        self._hold.progress = news = dict(value)
        if self._clock() - self._progress_at >= PROGRESS_EVERY_S:
            self._progress_at = self._clock()
            await self._client.heartbeat([self._hold.beat()])
            self._hold.told(news)

    async def reserve(
        self,
        policy: str,
        *,
        sender: str | None = None,
        shop: str | None = None,
        cost: int = 1,
        max_wait_ms: int = 0,
    ) -> Reservation:
        try:
            told = await self._client.reserve(
                policy,
                sender=sender,
                shop=shop or self.job.shop,
                cost=cost,
                max_wait_ms=max_wait_ms,
            )
        except errors.Unavailable as error:
            raise handler.Unavailable(error.detail) from error
        except errors.ApiError as error:
            raise handler.Permanent(f"the limit {policy} cannot be asked: {error}") from error
        return Reservation(
            allowed=told.allowed,
            wait_ms=told.wait_ms,
            token=told.token,
            backend=told.backend,
            degraded=told.degraded is not None,
            unsatisfiable=told.unsatisfiable,
        )

    def _require_lease(self) -> None:
        if self._hold.is_lost or self._clock() > self._hold.until:
            raise LeaseLost


def _info(job: LeasedJob) -> JobInfo:
    known: dict[str, Any] = {
        "queue": job.queue,
        "max_attempts": job.max_attempts,
        "batch_id": job.batch_id,
        "created_at": job.created_at,
    }
    said = {name: value for name, value in known.items() if value is not None}
    return JobInfo(
        id=UUID(str(job.id)),
        kind=str(job.kind),
        shop=job.shop,
        attempt=job.attempt,
        tags=tuple(job.tags),
        **said,
    )
