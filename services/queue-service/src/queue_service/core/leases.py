"""Jobs leased to workers that pull them over HTTP: handed out, kept, settled, given back."""

import base64
import hashlib
import hmac
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from mainstay import handler
from queue_service.core.attempts import (
    Ended,
    Ending,
    Raised,
    Settlement,
    Status,
    Verb,
    error_of,
    settlement,
)
from queue_service.core.leasing import Orphan, Settlements
from queue_service.core.parking import Parking
from queue_service.core.ports import Job
from queue_service.core.queues import no_such_queue

PULL = "pull"
# How long a call with a request_id is remembered.
REMEMBERED_S = 30.0
EXPIRED = "lease_expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Up to `want` jobs of the queue, of `shop` alone if that is not None. `caller` is whose
    `request_id` it is."""

    queue: str
    want: int
    lease_s: float
    wait_s: float = 0.0
    shop: str | None = None
    caller: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Leased:
    """`is_broken`: its args are sealed, and cannot be opened."""

    job: Job
    lease_no: int
    until: datetime
    snoozes: int
    is_broken: bool = False


@dataclass(frozen=True, slots=True)
class Served:
    """How a queue is served."""

    by: str
    max_age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A running job, as it must be known to settle it."""

    id: UUID
    lease_no: int
    lane: int
    queue: str
    shop: str | None
    attempt: int
    max_attempts: int
    retry: Mapping[str, float]
    created_at: datetime
    cancel_requested: bool
    is_sealed: bool
    running_s: float

    @property
    def is_last(self) -> bool:
        return self.attempt >= self.max_attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker says of a job that it holds. `outcome`: completed, failed, snooze, cancel,
    discard, or release."""

    id: UUID
    lease_no: int
    outcome: str
    result: Any = None
    error: Raised | None = None
    delay_s: float | None = None
    progress: Any = None
    clear_marks: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a report. `held` and `verb` when it was the one that counted."""

    status: str
    held: Held | None = None
    verb: Verb | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    id: UUID
    lease_no: int
    progress: Any = None


@dataclass(frozen=True, slots=True)
class Beaten:
    """What is still leased: (id, lease number) → is it to be stopped?"""

    kept: Mapping[tuple[UUID, int], bool]


class LeaseStore(Protocol):
    async def served(self, queue: str) -> Served | None: ...

    async def lease(self, ask: Ask, *, remembered_s: float) -> tuple[list[Leased], list[int]]:
        """(jobs, lanes that ran dry and must be woken)."""
        ...

    async def held(self, job_ids: Sequence[UUID]) -> Sequence[Held]: ...

    async def settle(
        self, reports: Sequence[Report], settlements: Sequence[Settlement]
    ) -> list[Status]:
        """Each as long as its lease has not run out; a status for each, in order."""
        ...

    async def extend(
        self, beats: Sequence[Beat], *, extend_s: float | None, shop: str | None
    ) -> Mapping[tuple[UUID, int], bool]: ...

    async def unheard(self, ask: Ask) -> bool:
        """Forget the call, unless it has been repeated. True if it was forgotten."""
        ...


class Marks(Settlements, Protocol):
    async def mark(self, job_id: UUID, lease_no: int, name: str) -> int | None: ...


class Expiries(Protocol):
    async def expired(self, limit: int) -> list[Orphan]: ...

    async def forget_calls(self, *, older_than_s: float) -> None: ...


class Tokens:
    """A token says which lease of a job it stands for, and only we can make one."""

    _LEASE = struct.Struct(">q")
    _MAC_BYTES = 16

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"mainstay lease token\n" + secret.encode()).digest()

    def issue(self, job_id: UUID, lease_no: int) -> str:
        lease = self._LEASE.pack(lease_no)
        return base64.urlsafe_b64encode(lease + self._mac(job_id, lease)).decode()

    def lease_no(self, job_id: UUID, token: str) -> int | None:
        """None: not a token of ours for this job."""
        try:
            raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except ValueError:
            return None
        lease, mac = raw[: self._LEASE.size], raw[self._LEASE.size :]
        if len(lease) < self._LEASE.size or not hmac.compare_digest(mac, self._mac(job_id, lease)):
            return None
        lease_no: int = self._LEASE.unpack(lease)[0]
        return lease_no

    def _mac(self, job_id: UUID, lease: bytes) -> bytes:
        whole = hmac.digest(self._key, job_id.bytes + lease, "sha256")
        return whole[: self._MAC_BYTES]


class Leases:
    def __init__(
        self, *, store: LeaseStore, engine: Marks, parking: Parking, tokens: Tokens, clock: Clock
    ) -> None:
        self._store = store
        self._engine = engine
        self._parking = parking
        self._clock = clock
        self.tokens = tokens

    async def require_pulled(self, queue: str) -> Served:
        served = await self._store.served(queue)
        if served is None:
            raise no_such_queue(queue)
        if served.by != PULL:
            raise errors.Conflict(
                f"the jobs of {queue} are run by the built-in worker",
                code="queue_served_by_worker",
            )
        return served

    async def lease(self, ask: Ask, *, is_gone: Callable[[], bool]) -> Sequence[Leased]:
        """Some as soon as there are any; none after the wait. `is_gone`: nobody hears the answer
        any more."""
        served = await self.require_pulled(ask.queue)

        async def look() -> Sequence[Leased]:
            return await self._look(ask, served)

        if not ask.wait_s:
            found = await look()
        else:
            found = await self._parking.wait(
                (ask.queue, ask.shop), look, wait_s=ask.wait_s, is_gone=is_gone
            )
        if found and is_gone():
            await self._take_back(ask, found)
            return []
        return found

    async def settle(self, reports: Sequence[Report], *, shop: str | None) -> list[Settled]:
        """In order, after the commit."""
        running = {
            (one.id, one.lease_no): one
            for one in await self._store.held([report.id for report in reports])
        }
        helds = [running.get((report.id, report.lease_no)) for report in reports]
        mine = [
            (place, report, held)
            for place, (report, held) in enumerate(zip(reports, helds, strict=True))
            if held is None or shop in (None, held.shop)
        ]
        settlements = [self._settlement(report, held) for _, report, held in mine]
        statuses = await self._store.settle([report for _, report, _ in mine], settlements)
        settled = [Settled("unknown")] * len(reports)
        for (place, _, held), written, status in zip(mine, settlements, statuses, strict=True):
            counts = status is Status.SETTLED
            settled[place] = Settled(
                status.value, held if counts else None, _verb(written, held) if counts else None
            )
        await self._after(settled)
        return settled

    async def beat(
        self, beats: Sequence[Beat], *, extend_s: float | None, shop: str | None
    ) -> Beaten:
        return Beaten(await self._store.extend(beats, extend_s=extend_s, shop=shop))

    async def mark(self, job_id: UUID, lease_no: int, name: str) -> bool:
        """True if no earlier lease has left the mark; the same lease may leave it again."""
        left_by = await self._engine.mark(job_id, lease_no, name)
        if left_by is None:
            raise lease_lost()
        return left_by == lease_no

    async def _look(self, ask: Ask, served: Served) -> Sequence[Leased]:
        while True:
            found, dry = await self._store.lease(ask, remembered_s=REMEMBERED_S)
            woken = await self._engine.wake(dry)
            fresh = await self._fit(found, served)
            if fresh or not (woken or found or dry):
                return fresh

    async def _fit(self, found: Sequence[Leased], served: Served) -> Sequence[Leased]:
        """What can be handed out. The rest ends: nobody else could do more about it."""
        now = self._clock.now()
        flaws = [_flaw(one, served, now) for one in found]
        unfit = [
            Settlement(
                id=one.job.id,
                lease_no=one.lease_no,
                verb=Verb.FAILED,
                error=error_of(one.job.attempt, Ended(flaw, now, 0.0), flaw),
                unmark=True,
            )
            for one, flaw in zip(found, flaws, strict=True)
            if flaw is not None
        ]
        if unfit:
            await self._engine.settle(unfit)
        return [one for one, flaw in zip(found, flaws, strict=True) if flaw is None]

    async def _take_back(self, ask: Ask, found: Sequence[Leased]) -> None:
        """The caller hung up: its jobs go back, unless it has asked again and holds them."""
        if ask.request_id is not None and not await self._store.unheard(ask):
            return
        await self.settle(
            [Report(id=one.job.id, lease_no=one.lease_no, outcome="release") for one in found],
            shop=None,
        )

    async def _after(self, settled: Sequence[Settled]) -> None:
        """Whoever waits hears of what is ready again, and of room under caps."""
        helds = [(one.held, one.verb) for one in settled if one.held is not None]
        await self._engine.wake([held.lane for held, verb in helds if verb is Verb.RELEASE])
        for queue in {held.queue for held, _ in helds}:
            self._parking.hint(queue)

    def _settlement(self, report: Report, held: Held | None) -> Settlement:
        if held is None or report.outcome == "release":
            return Settlement(id=report.id, lease_no=report.lease_no, verb=Verb.RELEASE)
        ended = Ended(_ending(report), self._clock.now(), held.running_s, is_marked=True)
        written = settlement(held, ended)._replace(is_sealed=held.is_sealed)
        if written.verb is not Verb.RETRY:
            return written
        delay_s = written.delay_s if report.delay_s is None else report.delay_s
        return written._replace(delay_s=delay_s, unmark=report.clear_marks)


def _flaw(one: Leased, served: Served, now: datetime) -> Raised | None:
    if one.is_broken:
        return Raised("decrypt_failed", "its args cannot be opened with the keys we have", False)
    longest_s = served.max_age_s
    if longest_s is not None and now - one.job.created_at > timedelta(seconds=longest_s):
        return Raised("expired", f"it waited longer than {longest_s:g} s", False)
    return None


def _ending(report: Report) -> Ending:
    error = report.error
    match report.outcome:
        case "completed":
            return handler.Completed(report.result)
        case "snooze":
            return handler.Snooze(report.delay_s or 0.0)
        case "cancel":
            return handler.Cancel(error.message if error else "cancelled by its worker")
        case "discard" if error is not None:
            return replace(error, retryable=False)
        case "discard":
            return handler.Discard("discarded by its worker")
        case _:
            return error or Raised("failed", "its worker gave no reason", True)


def _verb(written: Settlement, held: Held | None) -> Verb:
    """What settling made of it: a job that was told to stop does not come back."""
    final = (Verb.COMPLETED, Verb.FAILED, Verb.CANCELLED)
    if held is not None and held.cancel_requested and written.verb not in final:
        return Verb.CANCELLED
    return written.verb


def lease_lost() -> errors.Conflict:
    return errors.Conflict("the lease is not yours, or has run out", code="lease_lost")


def expiry(orphan: Orphan, now: datetime) -> Settlement:
    """A lease that ran out has spent its attempt. It is no kill: nobody knows that the worker died,
    and attempts alone bound how often this can happen."""
    raised = Raised(EXPIRED, "the lease ran out before the job was settled", True)
    is_last = orphan.attempt >= orphan.max_attempts
    return Settlement(
        id=orphan.id,
        lease_no=orphan.lease_no,
        verb=Verb.FAILED if is_last else Verb.LOST,
        error=error_of(orphan.attempt, Ended(raised, now, 0.0), raised),
        unmark=is_last,
    )
