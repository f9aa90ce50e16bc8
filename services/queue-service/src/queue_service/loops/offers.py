"""Waits for offers of jobs on behalf of the queues of this process that have room for more."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from chassis import lifecycle, logs
from queue_service import metrics
from queue_service.core.dispatch import Backend, Missed, NamedClaims, Offer, Offers
from queue_service.core.parking import Parking
from queue_service.loops.roster import Roster

log = logs.get(__name__)

WAIT_S = 1.0
# While there is nothing to wait at, everybody looks for himself.
AWAY_S = 0.25
CLOSE_S = 0.5
ROOM_OF_PARKED = 64
# After so many offers in a row of which nothing could be claimed, the rest is not worth trying.
MAX_VAIN = 8

Rooms = Callable[[], Mapping[str, int]]
Deliver = Callable[[Offer], Awaitable[None]]


def show_switch(to: Backend) -> None:
    """Log and metrics tell what hands jobs to workers from now on."""
    log.warning("dispatch_switched", to=to)
    metrics.DISPATCH_SWITCHES.labels(to).inc()
    for backend in Backend:
        metrics.DISPATCH_BACKEND.labels(backend).set(backend is to)


class OfferLoop(lifecycle.Loop):
    """`rooms()`: queue → how many jobs it could take now; `heard()` when there is more room.
    `missed()`: hints may have been lost, all must look."""

    name = "offers"
    interval_s = WAIT_S

    def __init__(
        self, offers: Offers, *, rooms: Rooms, deliver: Deliver, missed: Callable[[], None]
    ) -> None:
        super().__init__()
        self._offers = offers
        self._rooms = rooms
        self._deliver = deliver
        self._missed = missed
        self._awaited: Mapping[str, int] = {}
        self._stirring: asyncio.Task[None] | None = None
        self._busy = asyncio.Lock()
        self._is_away = False
        self._is_closed = False

    async def run_once(self) -> bool:
        async with self._busy:
            self._awaited = {} if self._is_closed else self._rooms()
            if not self._awaited:
                return False
            try:
                await self._take()
                return True
            except Missed:
                self._see(away=True)
            finally:
                self._awaited = {}
        await asyncio.sleep(AWAY_S)
        return True

    async def _take(self) -> None:
        offer = await self._offers.take(self._awaited, wait_s=WAIT_S)
        self._see(away=False)
        if offer is None:
            return
        if self._is_closed:
            await self._offers.give_back(offer)
        else:
            await self._deliver(offer)

    def has_room(self, queue: str) -> None:
        """A queue has become idle."""
        self.wake()
        is_due = bool(self._awaited) and queue not in self._awaited and self._stirring is None
        if is_due and not self._is_closed:
            self._stirring = asyncio.create_task(self._stir(), name="offers:stir")

    async def close(self) -> None:
        """Take no more; what has been taken is delivered."""
        self._is_closed = True
        await (self._stirring or self._stir())
        try:
            async with asyncio.timeout(CLOSE_S), self._busy:
                pass
        except TimeoutError:
            pass  # what comes now comes to those who take nothing any more

    async def _stir(self) -> None:
        try:
            await self._offers.stir()
        except Missed:
            pass
        finally:
            self._stirring = None

    def _see(self, *, away: bool) -> None:
        if away is not self._is_away:
            self._is_away = away
            self._missed()


class Hands:
    """Claims what is offered for the producers of a worker."""

    def __init__(
        self, roster: Roster, *, claims: NamedClaims, offers: Offers, worker: Callable[[], UUID]
    ) -> None:
        self._roster = roster
        self._claims = claims
        self._offers = offers
        self._worker = worker
        self._vain: dict[str, int] = {}

    async def deliver(self, offer: Offer) -> None:
        producer = self._roster.producer(offer.queue)
        room = 0 if producer is None else producer.free
        if producer is None or room <= 0:
            await self._offers.give_back(offer)
            return
        asked = offer.job_ids[:room]
        if len(asked) < len(offer.job_ids):
            await self._offers.give_back(Offer(offer.queue, offer.job_ids[room:]))
        jobs = await self._claims.claim_named(offer.queue, self._worker(), asked)
        producer.hand(jobs)
        metrics.OFFERED.labels("claimed").inc(len(jobs))
        metrics.OFFERED.labels("gone").inc(len(asked) - len(jobs))
        if len(jobs) < len(asked):
            # Somebody else's by now, or in a lane that is held or shut: looking will tell.
            producer.wake()
        await self._judge(offer.queue, was_vain=not jobs)

    async def _judge(self, queue: str, *, was_vain: bool) -> None:
        vain = self._vain[queue] = self._vain.get(queue, 0) + 1 if was_vain else 0
        if vain >= MAX_VAIN:
            self._vain[queue] = 0
            await self._offers.forget(queue)


class Callers:
    """Has those look who wait for jobs of pulled queues."""

    def __init__(self, parking: Parking) -> None:
        self._parking = parking

    def rooms(self) -> dict[str, int]:
        return dict.fromkeys(self._parking.queues(), ROOM_OF_PARKED)

    def missed(self) -> None:
        self._parking.hint("")

    async def deliver(self, offer: Offer) -> None:
        self._parking.hint(offer.queue)
