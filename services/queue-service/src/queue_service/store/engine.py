"""Claim, settle, beat, rescue: what workers do in Postgres, fenced by lease numbers.

The statements themselves are functions of the database (migrations/0003_engine.sql), since they
must be several in one transaction.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from chassis import postgres, sql
from queue_service.core.attempts import Claimed, Settlement, Status
from queue_service.core.leasing import Orphan, WorkerQueue

SQL = sql.queries(__file__)

# The planner is not to be clever about tables whose statistics are always stale.
SETTINGS = {
    "jit": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


class EngineStore:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def worker_queues(self) -> list[WorkerQueue]:
        return [WorkerQueue(*row) for row in await self._database.fetch(SQL.worker_queues)]

    async def claim(
        self, queue: str, worker: UUID, *, want: int, lanes: int
    ) -> tuple[list[Claimed], list[int]]:
        """(jobs leased to the worker, lanes that ran dry and must be woken)."""
        rows = await self._database.fetch(SQL.claim, queue, worker, want, lanes)
        jobs = [_claimed(queue, row) for row in rows if row["o_id"] is not None]
        return jobs, [row["o_lane"] for row in rows if row["o_id"] is None]

    async def wake(self, lanes: Sequence[int]) -> bool:
        """True if one of them had ready jobs after all."""
        return bool(lanes) and bool(await self._database.fetchval(SQL.wake, sorted(set(lanes))))

    async def settle(self, settlements: Sequence[Settlement]) -> list[Status]:
        """A status for each, in order, after the commit."""
        rows = await self._database.fetch(
            SQL.settle,
            [one.id for one in settlements],
            [one.lease_no for one in settlements],
            [one.verb.value for one in settlements],
            [one.delay_s for one in settlements],
            [one.result for one in settlements],
            [one.error for one in settlements],
            [one.unmark for one in settlements],
        )
        return [Status(row["o_status"]) for row in rows]

    async def stage(self, limit: int) -> int:
        """How many due jobs became ready."""
        lanes: list[int] = await self._database.fetchval(SQL.stage, limit)
        await self.wake(lanes)
        return len(lanes)

    async def mark(self, job_id: UUID, lease_no: int, name: str) -> int | None:
        left_by: int | None = await self._database.fetchval(SQL.mark, job_id, lease_no, name)
        return left_by

    async def progress(self, job_id: UUID, lease_no: int, value: Mapping[str, Any]) -> None:
        await self._database.execute(SQL.progress, job_id, lease_no, value)

    async def bury(self, *, silent_s: float) -> int:
        """Workers that have not beaten for so long are dead. How many were."""
        tag = await self._database.execute(SQL.bury, silent_s)
        return int(tag.rpartition(" ")[2])

    async def orphans(self, limit: int) -> list[Orphan]:
        return [Orphan(*row) for row in await self._database.fetch(SQL.orphans, limit)]


def _claimed(queue: str, row: Any) -> Claimed:
    return Claimed(
        id=UUID(bytes=row["o_id"].bytes),
        lease_no=row["o_lease_no"],
        lane=row["o_lane"],
        queue=queue,
        kind=row["o_kind"],
        shop=row["o_shop"],
        attempt=row["o_attempt"],
        max_attempts=row["o_max_attempts"],
        snoozes=row["o_snoozes"],
        timeout_s=row["o_timeout_s"],
        retry=row["o_retry"],
        tags=row["o_tags"],
        batch_id=row["o_batch_id"],
        created_at=row["o_created_at"],
        run_at=row["o_run_at"],
        args=row["o_args"],
    )


class HistoryStore:
    """The days of history, and what is forgotten with them."""

    LOCK_TIMEOUT = "set local lock_timeout = '200ms'"

    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def keep_day(self, parent: str, *, days_ahead: int) -> bool:
        """True if it was made now. Unavailable when a reader is in the way: try again."""
        async with self._database.transaction() as connection:
            await connection.execute(self.LOCK_TIMEOUT)
            return bool(await connection.fetchval(SQL.keep_history_day, parent, days_ahead))

    async def drop_days(self, parent: str, *, older_than_d: int) -> int:
        async with self._database.transaction() as connection:
            await connection.execute(self.LOCK_TIMEOUT)
            return int(await connection.fetchval(SQL.drop_history_days, parent, older_than_d))

    async def forget_keys(self, *, older_than_d: int, limit: int) -> int:
        tag = await self._database.execute(SQL.forget_keys, older_than_d, limit)
        return int(tag.rpartition(" ")[2])

    async def overflowing(self) -> int:
        """Rows for which no day was there (at most a thousand of each kind are counted)."""
        return int(await self._database.fetchval(SQL.overflowing))
