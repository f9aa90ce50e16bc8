"""Which accepted jobs are on their way: their reader is told "accepted", never "not found".

The table is the record. What the bus took while the table was away is remembered here, bounded,
by this replica alone.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar
from uuid import UUID

from chassis.kernel import errors
from gateway.core import ports
from gateway.core.parcels import Parcel, Waiting
from gateway.core.ports import Road

REMEMBERED = 10_000
NOT_FOUND = 404


class Answered(Protocol):
    @property
    def status(self) -> int: ...


Answer = TypeVar("Answer", bound=Answered)


class InMotion:
    def __init__(self, spool: ports.Spool) -> None:
        self._spool = spool
        self._remembered: OrderedDict[UUID, Waiting] = OrderedDict()
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
        self._kept += len(parcels)
        self._waiting += len(parcels)
        return await self._spool.keep(parcels, road=road, is_whole=is_whole)

    def remember(self, parcels: Sequence[Parcel]) -> None:
        for parcel in parcels:
            self._remembered[parcel.id] = Waiting(
                id=parcel.id,
                shop=parcel.shop,
                scope=parcel.scope,
                key=parcel.key,
                fingerprint=parcel.fingerprint,
            )
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    async def find(self, job_id: UUID) -> Waiting | None:
        """Unavailable: the table is away, so that nobody can say that it does not wait."""
        return self._remembered.get(job_id) or await self._spool.find(job_id)

    async def find_like(self, parcels: Sequence[Parcel]) -> list[Waiting]:
        """As far as anybody can say now; [] at once when nothing waits."""
        if not self.may_hold_any:
            return []
        remembered = [self._remembered.get(parcel.id) for parcel in parcels]
        try:
            there = await self._spool.find_like(parcels)
        except errors.Unavailable:
            there = []
        return [*filter(None, remembered), *there]


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
            waiting = await self._find(job_id, shop)
            if waiting is None:
                raise
            return waiting
        if answer.status != NOT_FOUND:
            return answer
        return await self._find(job_id, shop) or await ask()

    async def _find(self, job_id: UUID, shop: str | None) -> Waiting | None:
        waiting = await self._motion.find(job_id)
        if waiting is None or (shop is not None and waiting.shop != shop):
            return None
        return waiting
