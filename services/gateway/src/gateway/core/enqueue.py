"""The roads of an enqueue: 1 straight to the owner, 2 the bus, 3 our own table, else 503.

Each is tried at most once per request, each keeps the job before we answer, and the job has its
final id before the first, so that a lost answer never makes a second one. Before a promise (202)
the gateway judges as the owner would; what only the owner can know ends as a visible `rejected`.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from chassis.kernel import errors
from gateway.core import ports
from gateway.core.in_motion import InMotion
from gateway.core.parcels import Claims, Parcel, Waiting, waiting
from gateway.core.ports import Road, Verdict
from gateway.core.queues import Queues

RETRY_AFTER_S = (1.0, 5.0)

Fallback = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one job. `accepted` under `id`: promised, not at its owner yet."""

    id: UUID
    road: Road
    status: Literal["created", "existing", "accepted", "rejected"]
    job: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None
    fault: errors.Fault | None = None


class Enqueue:
    """`fell_back` is told why road 1 was left."""

    def __init__(
        self,
        *,
        direct: ports.Direct,
        bus: ports.Bus | None,
        motion: InMotion,
        queues: Queues,
        fell_back: Fallback,
    ) -> None:
        self._direct = direct
        self._bus = bus
        self._motion = motion
        self._queues = queues
        self._fell_back = fell_back

    async def one(self, parcel: Parcel, *, direct_s: float | None = None) -> Outcome:
        """Raises Invalid or Conflict for what is refused, Unavailable when every road is shut.
        `direct_s`: road 1 gets no more than this."""
        before = await self._motion.find_like([parcel])
        if before:
            Claims(before).like(parcel)
        try:
            verdict = await self._direct.accept(parcel, within_s=direct_s)
        except errors.Unavailable as error:
            self._fell_back(error.code)
        else:
            return _decided(parcel, verdict, is_repeat=bool(before))
        if before:
            return _accepted(before[0].id, Road.SPOOL)
        await self._queues.require(parcel.queue)
        (outcome,) = await self._promise([parcel], is_whole=True)
        return outcome

    async def all(
        self, parcels: Sequence[Parcel], *, atomic: bool, is_keyed: bool
    ) -> list[Outcome]:
        """In their order. With `atomic` every outcome is `rejected` or none is; under one key
        (`is_keyed`) a use of it for something else refuses all."""
        is_whole = atomic or is_keyed
        outcomes: dict[int, Outcome] = {}
        for place, fault in await self._colliding(parcels):
            if is_whole:
                raise fault
            outcomes[place] = _refused(parcels[place], fault)
        left = [place for place in range(len(parcels)) if place not in outcomes]
        outcomes |= await self._directly(parcels, left, atomic=atomic, is_keyed=is_keyed)
        left = [place for place in left if place not in outcomes]
        if left:
            self._fell_back("batch")
            outcomes |= await self._otherwise(parcels, left, atomic=atomic, is_whole=is_whole)
        return [outcomes[place] for place in range(len(parcels))]

    async def _colliding(self, parcels: Sequence[Parcel]) -> list[tuple[int, errors.Fault]]:
        there = Claims(await self._motion.find_like(parcels))
        judged = [_judge(parcel, there) for parcel in parcels]
        return [
            (place, found) for place, found in enumerate(judged) if isinstance(found, errors.Fault)
        ]

    async def _directly(
        self, parcels: Sequence[Parcel], places: list[int], *, atomic: bool, is_keyed: bool
    ) -> dict[int, Outcome]:
        """What the owner has judged. Under one key it judges all or none; who is wrong is taken
        out until the others pass together, so that a key used before leaves nothing behind."""
        outcomes: dict[int, Outcome] = {}
        left = places
        while left:
            verdicts = await self._direct.accept_all(
                [parcels[place] for place in left], atomic=atomic or is_keyed
            )
            found: dict[int, Outcome] = {}
            for place, verdict in zip(left, verdicts, strict=True):
                if isinstance(verdict, Verdict):
                    found[place] = _decided(parcels[place], verdict, is_repeat=False)
                elif not isinstance(verdict, errors.Unavailable):
                    raise verdict
            wrong = {place: each for place, each in found.items() if each.problem is not None}
            if atomic or not is_keyed or not wrong or _is_reuse(wrong.values()):
                return outcomes | found
            outcomes |= wrong
            left = [place for place in left if place not in wrong]
        return outcomes

    async def _otherwise(
        self, parcels: Sequence[Parcel], places: list[int], *, atomic: bool, is_whole: bool
    ) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        for place in places:
            try:
                await self._queues.require(
                    parcels[place].queue, f"/jobs/{place}/queue" if atomic else "/queue"
                )
            except errors.Invalid as fault:
                if atomic:
                    raise
                outcomes[place] = _refused(parcels[place], fault)
        good = []
        claims = Claims([])
        for place in (place for place in places if place not in outcomes):
            found = _judge(parcels[place], claims)
            if found is None:
                good.append(place)
                claims.add(waiting(parcels[place]))
            elif isinstance(found, Waiting):
                outcomes[place] = _accepted(found.id, Road.SPOOL)
            elif is_whole:
                raise found
            else:
                outcomes[place] = _refused(parcels[place], found)
        if good:
            promised = await self._promise([parcels[place] for place in good], is_whole=is_whole)
            outcomes |= dict(zip(good, promised, strict=True))
        return outcomes

    async def _promise(self, parcels: list[Parcel], *, is_whole: bool) -> list[Outcome]:
        """Roads 2 and 3. The row comes before the message: it is also what sends it again."""
        bus = self._bus if self._bus is not None and self._bus.is_up else None
        road = Road.BUS if bus is not None else Road.SPOOL
        try:
            there = await self._motion.keep(parcels, road=road, is_whole=is_whole)
            is_kept = True
        except errors.Unavailable:
            there, is_kept = [], False
        claims = Claims(there)
        judged = [(parcel, _judge(parcel, claims)) for parcel in parcels]
        fresh = [parcel for parcel, found in judged if found is None]
        if bus is None or not await self._sent(bus, fresh, is_kept=is_kept):
            road = Road.SPOOL
            if not is_kept:
                raise errors.Unavailable(
                    "no road is open that could keep the job; repeat it",
                    code="enqueue_unavailable",
                    retry_after_s=random.uniform(*RETRY_AFTER_S),
                )
        return [_outcome(parcel, found, road) for parcel, found in judged]

    async def _sent(self, bus: ports.Bus, parcels: list[Parcel], *, is_kept: bool) -> bool:
        if not parcels:
            return True
        try:
            await bus.send(parcels)
        except errors.Unavailable as error:
            self._fell_back(f"bus_{error.code}")
        else:
            if not is_kept:
                self._motion.remember(parcels)
            return True
        if is_kept:
            await self._motion.hurry(parcels)
        return False


def _judge(parcel: Parcel, claims: Claims) -> errors.Fault | Waiting | None:
    """What claims its place: another job, the same one, or nothing."""
    try:
        return claims.like(parcel)
    except errors.Fault as fault:
        return fault


def _outcome(parcel: Parcel, found: errors.Fault | Waiting | None, road: Road) -> Outcome:
    match found:
        case None:
            return _accepted(parcel.id, road)
        case Waiting():
            return _accepted(found.id, road)
        case _:
            return _refused(parcel, found)


def _is_reuse(outcomes: Iterable[Outcome]) -> bool:
    return any((each.problem or {}).get("code") == "idempotency_key_reused" for each in outcomes)


def _decided(parcel: Parcel, verdict: Verdict, *, is_repeat: bool) -> Outcome:
    is_old = is_repeat and verdict.status == "created"
    return Outcome(
        id=parcel.id,
        road=Road.DIRECT,
        status="existing" if is_old else verdict.status,
        job=verdict.job,
        problem=verdict.problem,
    )


def _accepted(identifier: UUID, road: Road) -> Outcome:
    return Outcome(id=identifier, road=road, status="accepted")


def _refused(parcel: Parcel, fault: errors.Fault) -> Outcome:
    return Outcome(id=parcel.id, road=Road.SPOOL, status="rejected", fault=fault)
