"""Delivering what was promised: oldest first, each until its owner has judged it."""

from chassis.kernel import errors
from gateway.core import ports
from gateway.core.in_motion import InMotion

CLAIM = 200
# A command that its owner does not even read is our mistake: it stays, but holds up no other.
REFUSED_PAUSE_S = 60.0
AWAY_PAUSE_S = 1.0


class Forward:
    def __init__(self, *, direct: ports.Direct, spool: ports.Spool, motion: InMotion) -> None:
        self._direct = direct
        self._spool = spool
        self._motion = motion

    async def __call__(self) -> bool:
        """One load; True when there may be more. A crash in it repeats the load, which the owner
        knows by its ids."""
        waiting, _age_s = await self._motion.count()
        if waiting == 0 or self._direct.is_shut:
            return False
        parcels = await self._spool.claim(CLAIM)
        if not parcels:
            return False
        verdicts = await self._direct.accept_all(parcels, promised=True)
        pairs = list(zip(parcels, verdicts, strict=True))
        done = [parcel.id for parcel, verdict in pairs if isinstance(verdict, ports.Verdict)]
        away = [parcel.id for parcel, verdict in pairs if isinstance(verdict, errors.Unavailable)]
        refused = [parcel.id for parcel in parcels if parcel.id not in {*done, *away}]
        for identifiers, pause_s in ((away, AWAY_PAUSE_S), (refused, REFUSED_PAUSE_S)):
            if identifiers:
                await self._spool.later(identifiers, seconds=pause_s)
        if done:
            await self._spool.done(done)
        return len(done) == CLAIM
