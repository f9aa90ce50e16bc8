"""Which accepted jobs are on their way: their reader is told "accepted", never "not found".

The table is the record. What the bus took while the table was away is remembered here, bounded,
by this replica alone.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Protocol, TypeVar
from uuid import UUID

from chassis.kernel import breaker, errors
from gateway.core import ports
from gateway.core.parcels import Parcel, Waiting, waiting
from gateway.core.ports import Road

REMEMBERED = 10_000
# Asked after at a time.
LOOKS = 100
KEEP_S = 1.0
LOOK_S = 0.5
CIRCUIT = breaker.Policy(
    failures_to_open=2, hold_base_s=0.5, hold_max_s=2.0, trials=1, ramp_s=0.1, first_share=1.0
)
T = TypeVar("T")
NOT_FOUND = 404


class Answered(Protocol):
    @property
    def status(self) -> int: ...


Answer = TypeVar("Answer", bound=Answered)


class InMotion:
    """A table that does not answer is not waited for: it has a budget and a circuit of its own,
    since the bus may still be open behind it."""

    def __init__(self, spool: ports.Spool, *, circuit: breaker.Breaker) -> None:
        self._spool = spool
        self._circuit = circuit
        self._remembered: OrderedDict[UUID, Waiting] = OrderedDict()
        self._asking: set[asyncio.Task[Any]] = set()
        # At the start anything may be there; a look at the table says more.
        self._waiting = 1
        self._kept = 0

    @property
    def may_hold_any(self) -> bool:
        """False spares a look for each request in good times. A row that another replica has just
        written may be missed: its collision is then found by the owner."""
        return self._waiting > 0 or bool(self._remembered)

    async def count(self) -> tuple[int, float]:
        """How many wait, and the age of the oldest in seconds."""
        kept_before = self._kept
        count, age_s = await self._spool.count()
        # A row that was written while we counted may not be among them.
        self._waiting = count + self._kept - kept_before
        return count, age_s

    async def keep(self, parcels: Sequence[Parcel], *, road: Road, is_whole: bool) -> list[Waiting]:
        """As `Spool.keep`. Unavailable after a second: it may be kept all the same, which does no
        harm, for the owner knows repeats."""
        self._kept += len(parcels)
        self._waiting += len(parcels)
        return await self._within(KEEP_S, self._spool.keep(parcels, road=road, is_whole=is_whole))

    def remember(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            self._remembered[parcel.id] = waiting(parcel)
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    async def forget_arrived(self, has: Callable[[UUID], Awaitable[bool]]) -> None:
        """Of what is remembered, what its owner `has` by now. Unavailable: the owner is away."""
        for job_id in list(islice(self._remembered, LOOKS)):
            if await has(job_id):
                self._remembered.pop(job_id, None)
            elif job_id in self._remembered:
                self._remembered.move_to_end(job_id)

    async def find(self, job_id: UUID, *, shop: str | None) -> Waiting | None:
        """What waits under it, for everybody (None) or for this shop alone. Unavailable: the table
        is away, so that nobody can say that it does not wait."""
        remembered = self._remembered.get(job_id)
        found = remembered or await self._within(LOOK_S, self._spool.find(job_id))
        return found if found is not None and shop in (None, found.shop) else None

    async def find_like(self, parcels: Sequence[Parcel]) -> list[Waiting]:
        """As far as anybody can say now; [] at once when nothing waits."""
        if not self.may_hold_any:
            return []
        remembered = [self._remembered.get(parcel.id) for parcel in parcels]
        try:
            there = await self._within(LOOK_S, self._spool.find_like(parcels))
        except errors.Unavailable:
            there = []
        return [*filter(None, remembered), *there]

    async def hurry(self, parcels: Sequence[Parcel]) -> None:
        """What the bus did not take goes at the next chance; at the latest, it falls due."""
        with suppress(errors.Unavailable):
            await self._within(LOOK_S, self._spool.hurry([each.id for each in parcels]))

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """A driver that is cancelled in a transaction may hang on its way out: it is left alone."""
        ticket = self._circuit.admit(essential=True)
        if ticket is None:
            work.close()
            raise errors.Unavailable("the table does not answer", code="database_unavailable")
        task = asyncio.create_task(work)
        self._asking.add(task)
        task.add_done_callback(self._answered)
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:
            self._circuit.failure(ticket)
            raise errors.Unavailable("the table is too slow", code="database_unavailable")
        try:
            result = task.result()
        except errors.Unavailable:
            self._circuit.failure(ticket)
            raise
        except errors.Fault:
            self._circuit.success(ticket)
            raise
        self._circuit.success(ticket)
        return result

    def _answered(self, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # late ones have nobody to tell


class FindJob:
    """A job by its id: its owner's word, or that it is still on its way."""

    def __init__(self, *, motion: InMotion) -> None:
        self._motion = motion

    async def __call__(
        self, job_id: UUID, *, shop: str | None, ask: Callable[[], Awaitable[Answer]]
    ) -> Answer | Waiting:
        """`ask` asks the owner. Its 404 is only true when it is given after the table's "no": a job
        leaves the table once its owner has it."""
        try:
            answer = await ask()
        except errors.Unavailable:
            found = await self._motion.find(job_id, shop=shop)
            if found is None:
                raise
            return found
        if answer.status != NOT_FOUND:
            return answer
        return await self._motion.find(job_id, shop=shop) or await ask()
