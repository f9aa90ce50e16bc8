"""Try a handler without a server: `run_job` runs one attempt, `FakeContext` remembers the rest.

    ctx = FakeContext(environ={"GREETING": "hello"})
    assert await run_job(send, {"name": "Eleni"}, ctx) == Completed({"greeted": "Eleni"})

Run the same context again to see the next attempt: marks of `once` are kept, or cleared, as the
real worker does it; so is the last `progress`, and a job that was made is made once. The time
stands still until `ctx.advance(seconds)`.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack
from uuid import UUID, uuid4

import aiohttp

from mainstay import handler
from mainstay.attempts import Failed, attempt
from mainstay.children import ChildOptions, NewJob, args_flaw, child_id, require_names
from mainstay.handler import Delivery, Handler, JobInfo, Outcome, Reservation, Unavailable
from mainstay.limits import Observed
from mainstay.sizes import MAX_PROGRESS_BYTES, size_of


@dataclass(frozen=True, slots=True)
class Reserved:
    """One call of `reserve`, as it was made."""

    policy: str | Sequence[str]
    sender: str | None
    shop: str | None
    cost: int
    max_wait_ms: int
    user: str | None = None


class FakeContext:
    """A `Context` that behaves, for any number of attempts of one job.

    `reservations` are the limiter's next answers, in order (`Unavailable` to raise it); when they
    are used up, or none are given, everything is allowed at once. What happened is in
    `reserved`, `refunded` (how much), `observed`, `progressed` and `marks`.
    """

    def __init__(
        self,
        *,
        id: UUID | None = None,  # noqa: A002 - the name of the field
        shop: str | None = None,
        environ: Mapping[str, str] | None = None,
        reservations: Iterable[Reservation | Unavailable] = (),
        max_attempts: int = 5,
        now: datetime | None = None,
        ready: Mapping[str, int] | None = None,
    ) -> None:
        self._now = now or datetime.now(UTC)
        self.job = JobInfo(
            id=id or uuid4(),
            kind="",
            shop=shop,
            attempt=0,
            max_attempts=max_attempts,
            created_at=self._now,
        )
        self.ready = dict(ready or {})
        self.environ: Mapping[str, str] = dict(environ or {})
        self.cancelled = asyncio.Event()
        self.log: logging.Logger = logging.getLogger("mainstay.testing")
        self.marks: dict[str, int] = {}
        self.reserved: list[Reserved] = []
        self.refunded: list[int] = []
        self.observed: list[dict[str, Any]] = []
        self.progressed: list[dict[str, Any]] = []
        self.enqueued: dict[UUID, NewJob] = {}
        self._names: set[str] = set()
        self._answers = iter(reservations)
        self._lease = 0
        self._delivery = Delivery.AT_LEAST_ONCE
        self._ends_at = float("inf")
        self._http: aiohttp.ClientSession | None = None

    @property
    def http(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("the context is open only while run_job runs")
        return self._http

    @property
    def outside(self) -> aiohttp.ClientSession:
        """Unguarded: a test's servers are not on the public internet."""
        return self.http

    @property
    def deadline(self) -> float:
        return self._ends_at

    def remaining_s(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    async def once(self, name: str) -> bool:
        left_by = self.marks.get(name)
        if left_by == self._lease:
            raise ValueError(f"once({name!r}) twice in one attempt: give each effect its name")
        if left_by is None:
            self.marks[name] = self._lease
            return True
        if self._delivery is Delivery.AT_MOST_ONCE:
            raise handler.Ambiguous(f"an earlier attempt may have done {name!r}")
        return False

    async def progress(self, value: Mapping[str, Any]) -> None:
        size_of(value, MAX_PROGRESS_BYTES)
        self.progressed.append(dict(value))

    async def checkpoint(self) -> dict[str, Any] | None:
        return dict(self.progressed[-1]) if self.progressed else None

    async def enqueue(
        self,
        kind: str,
        args: Mapping[str, Any] | None = None,
        *,
        name: str,
        **options: Unpack[ChildOptions],
    ) -> UUID:
        job = NewJob(name=name, kind=kind, args=args or {}, **options)
        require_names([job], self._names)
        self._names.add(name)
        return (await self.enqueue_many([job]))[0]

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[UUID]:
        require_names(jobs)
        flaws = {place: args_flaw(job.args) for place, job in enumerate(jobs)}
        if refused := {place: flaw for place, flaw in flaws.items() if flaw is not None}:
            raise handler.Refused(refused)
        made = [child_id(self.job.id, self.job.created_at, job.name) for job in jobs]
        for identifier, job in zip(made, jobs, strict=True):
            self.enqueued.setdefault(identifier, replace(job, shop=job.shop or self.job.shop))
        return made

    async def waiting(self, queue: str, *, shop: str | None = None, limit: int = 10_000) -> int:
        return min(limit, self.ready.get(queue, 0))

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
        self.reserved.append(Reserved(policy, sender, shop, cost, max_wait_ms, user))
        answer = next(self._answers, Reservation(allowed=True))
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    async def refund(self, slot: Reservation, cost: int | None = None) -> int:
        self.refunded.append(self.reserved[-1].cost if cost is None else cost)
        return self.refunded[-1]

    async def observe(
        self, policy: str, *, shop: str | None = None, **told: Unpack[Observed]
    ) -> None:
        self.observed.append({"policy": policy, "shop": shop or self.job.shop, **told})

    @asynccontextmanager
    async def attempt(self, of: Handler[Any]) -> AsyncIterator[None]:
        self._lease += 1
        self._names.clear()
        self._delivery = of.delivery
        self._ends_at = time.monotonic() + of.timeout_s
        self.job = replace(self.job, kind=of.kind, queue=of.queue, attempt=self.job.attempt + 1)
        try:
            async with aiohttp.ClientSession() as self._http:
                yield
        finally:
            self._http = None

    def settle(self, ended: Outcome | Failed) -> None:
        if isinstance(ended, handler.Retry | handler.Snooze):
            self.marks.clear()
        if isinstance(ended, handler.Snooze):
            self.job = replace(self.job, attempt=self.job.attempt - 1)


async def run_job(
    of: Handler[Any], args: Mapping[str, Any], ctx: FakeContext | None = None
) -> Outcome | Failed:
    """One attempt as a worker makes it: parse, run within `timeout_s`, name the ending."""
    ctx = ctx or FakeContext()
    async with ctx.attempt(of):
        ended = await attempt(of, args, ctx)
    ctx.settle(ended)
    return ended
