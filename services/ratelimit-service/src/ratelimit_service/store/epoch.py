"""The row that names the decider, and the heartbeats of those who must follow it."""

import uuid
from datetime import timedelta

from chassis import sql
from contracts.ratelimits import Backend
from ratelimit_service.core import ports, switch
from ratelimit_service.store.lane import Lane

QUERIES = sql.queries(__file__)

CHANNEL = "ratelimit_epoch"
# Any constant that nothing else in this database locks.
LOCK = 0x6C696D6974
LIVE_FOR = timedelta(seconds=3)
# How long a decision waits for replicas that do not follow. Longer than a lease, so that by then
# none of them decides any more.
SETTLE_WITHIN = timedelta(seconds=switch.LEASE_S + 0.1)


class PostgresEpochs:
    def __init__(self, lane: Lane, *, replica: uuid.UUID) -> None:
        self._lane = lane
        self._replica = replica

    async def beat(self, *, run_id: str | None, seq: int) -> ports.Standing:
        [row] = await self._lane.fetch(QUERIES.beat, self._replica, run_id, seq, LIVE_FOR)
        return ports.Standing(
            epoch=ports.Epoch(
                seq=row["seq"],
                gen=row["gen"],
                backend=Backend(row["backend"]),
                mark=row["mark"],
                run_id=row["run_id"],
            ),
            age_us=row["age_us"],
            replicas=row["replicas"],
            may_open=row["may_open"],
        )

    async def depart(self, epoch: ports.Epoch) -> None:
        await self._lane.fetch(QUERIES.depart, epoch.seq)

    async def open(self, epoch: ports.Epoch, *, run_id: str, mark: str) -> bool:
        [row] = await self._lane.fetch(QUERIES.open, epoch.seq, run_id, mark, LOCK, LIVE_FOR)
        return row["seq"] is not None

    async def leave(self) -> None:
        await self._lane.fetch(QUERIES.leave, self._replica)
