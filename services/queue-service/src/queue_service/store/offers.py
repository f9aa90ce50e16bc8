"""Claims of jobs that were named by somebody (migrations/0017_dispatch.sql)."""

from collections.abc import Sequence
from uuid import UUID

from chassis import postgres, sql
from queue_service.core.attempts import Claimed
from queue_service.store.engine import claimed
from queue_service.store.sealing import NONE as NO_SEALS
from queue_service.store.sealing import Seals

SQL = sql.queries(__file__)


class PostgresOffers:
    def __init__(self, database: postgres.Database, seals: Seals = NO_SEALS) -> None:
        self._database = database
        self._seals = seals

    async def claim_named(self, queue: str, worker: UUID, job_ids: Sequence[UUID]) -> list[Claimed]:
        rows = await self._database.fetch(SQL.claim_named, queue, worker, job_ids)
        return claimed(queue, rows, self._seals)
