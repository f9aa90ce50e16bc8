"""A job in the hands of a worker that pulls, and what its handler may use."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Unpack
from uuid import UUID

import aiohttp

from mainstay import errors, handler
from mainstay.answers import EnqueueResult, LeasedJob
from mainstay.attempts import LeaseLost
from mainstay.children import ChildOptions, NewJob, args_flaw, child_id, require_names
from mainstay.client import Client
from mainstay.handler import Delivery, Handler, JobInfo, Reservation
from mainstay.limits import Observed
from mainstay.operations import JobFilter
from mainstay.sizes import MAX_PROGRESS_BYTES, size_of

log = logging.getLogger("mainstay.handler")

PROGRESS_EVERY_S = 1.0
# A body has a MiB at most.
MAX_BODY_BYTES = 900_000


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
        outside: aiohttp.ClientSession | None = None,
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
        self._outside = outside
        self.deadline = clock() + of.timeout_s
        self._names: set[str] = set()
        self._made: set[str] = set()
        self._progress_at = 0.0

    @property
    def cancelled(self) -> asyncio.Event:
        return self._hold.cancelled

    @property
    def outside(self) -> aiohttp.ClientSession:
        """What is safe to call from here, only the owner of this process knows."""
        if self._outside is None:
            raise handler.WrongSettings(["give the worker a session for `outside`"])
        return self._outside

    def remaining_s(self) -> float:
        return max(0.0, self.deadline - self._clock())

    def now(self) -> datetime:
        return datetime.now(UTC)

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

    async def checkpoint(self) -> dict[str, Any] | None:
        left = self._hold.job.progress
        return dict(left) if isinstance(left, Mapping) else None

    async def enqueue(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        name: str,
        **options: Unpack[ChildOptions],
    ) -> UUID:
        job = NewJob(name=name, kind=kind, args=args or {}, **options)
        require_names([job], self._made)
        self._made.add(name)
        return (await self.enqueue_many([job]))[0]

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[UUID]:
        require_names(jobs)
        self._require_lease()
        refused: dict[int, str] = {}
        made: list[UUID] = []
        for piece in self._bodies(jobs, refused):
            told = await self._asked(piece)
            for (place, _), result in zip(piece, told, strict=True):
                problem = result.problem or {}
                # As it was said first, in an earlier attempt.
                if result.status == "rejected" and problem.get("code") != "id_taken":
                    refused[place] = str(problem.get("detail", "refused"))
                made.append(
                    result.id or child_id(self.job.id, self.job.created_at, jobs[place].name)
                )
        if refused:
            raise handler.Refused(refused)
        return made

    def _bodies(
        self, jobs: Sequence[NewJob], refused: dict[int, str]
    ) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """As many at a time as one body holds, with their places."""
        piece: list[tuple[int, dict[str, Any]]] = []
        size = 0
        for place, job in enumerate(jobs):
            if (flaw := args_flaw(job.args)) is not None:
                refused[place] = flaw
                continue
            identifier = child_id(self.job.id, self.job.created_at, job.name)
            said = {"shop": self.job.shop, **job.document(), "id": identifier}
            more = size_of(job.args, MAX_BODY_BYTES) + 1000
            if piece and size + more > MAX_BODY_BYTES:
                yield piece
                piece, size = [], 0
            piece.append((place, said))
            size += more
        if piece:
            yield piece

    async def _asked(self, piece: Sequence[tuple[int, dict[str, Any]]]) -> list[EnqueueResult]:
        try:
            return (await self._client.enqueue_batch(said for _, said in piece)).results
        except errors.Unavailable as error:
            raise handler.Unavailable(error.detail) from error

    async def waiting(self, queue: str, *, shop: str | None = None, limit: int = 10_000) -> int:
        wanted: JobFilter = {"queue": queue, "state": "ready"}
        if (whose := shop or self.job.shop) is not None:
            wanted["shop"] = whose
        try:
            return min(limit, await self._client.cancel_jobs(dry_run=True, **wanted))
        except errors.Unavailable as error:
            raise handler.Unavailable(error.detail) from error

    async def reserve(
        self,
        policy: str | Sequence[str],
        *,
        sender: str | None = None,
        shop: str | None = None,
        user: str | None = None,
        cost: int = 1,
        max_wait_ms: int = 0,
    ) -> Reservation:
        try:
            told = await self._client.reserve(
                policy,
                sender=sender,
                shop=shop or self.job.shop,
                user=user,
                cost=cost,
                max_wait_ms=max_wait_ms,
            )
        except errors.Unavailable as error:
            raise handler.Unavailable(error.detail) from error
        except errors.ApiError as error:
            raise handler.Permanent(f"the limit {policy} cannot be asked: {error}") from error
        return Reservation.of(told)

    async def refund(self, slot: Reservation, cost: int | None = None) -> int:
        if slot.token is None:
            return 0
        try:
            return await self._client.refund(slot.token, cost)
        except errors.ApiError as error:
            self.log.warning("what was reserved is not given back: %s", error.code)
            return 0

    async def observe(
        self, policy: str, *, shop: str | None = None, **told: Unpack[Observed]
    ) -> None:
        whose = shop or self.job.shop
        if whose is None:
            raise ValueError("whose bucket? give a shop")
        try:
            await self._client.observe(policy, shop=whose, **told)
        except errors.ApiError as error:
            self.log.warning("what was observed of %s is not told: %s", policy, error.code)

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
