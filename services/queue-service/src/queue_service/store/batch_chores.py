"""What batches need done in the background: counting, going on, stopping, ending. Every act is
harmless when two processes do it at once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from chassis import outbox, postgres, sql
from queue_service.core import batches
from queue_service.core.jobs import NewJob
from queue_service.core.ports import Rejection
from queue_service.store.batches import read_within
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.jobs import reject_within

SQL = sql.queries(__file__)


class PostgresBatchChores:
    def __init__(self, *, database: postgres.Database, writer: EnqueueWriter) -> None:
        self._database = database
        self._writer = writer

    async def fold(self, *, limit: int) -> int:
        deltas: int = await self._database.fetchval(SQL.fold, limit)
        return deltas

    async def ended(self, *, limit: int) -> list[UUID]:
        return [row["id"] for row in await self._database.fetch(SQL.ended, limit)]

    async def finish(self, batch_id: UUID) -> bool:
        async with self._database.transaction() as connection:
            reopened = await connection.fetchval(SQL.lock, batch_id)
            if reopened is None:
                return False
            at: datetime = await connection.fetchval(SQL.now)
            # It was told of when it ended first; jobs that were retried since change nothing.
            job = None if reopened else await self._tell(connection, batch_id, at)
            await connection.execute(SQL.finish, batch_id, at, job.id if job else None)
        if job is not None:
            await self._writer.wake([job])
        return True

    async def _tell(
        self, connection: postgres.Connection, batch_id: UUID, at: datetime
    ) -> NewJob | None:
        """The event, and the job that follows, if there is to be one."""
        batch = await read_within(connection, batch_id)
        job = batches.completion_job(batch, at)
        if job is not None:
            await self._follow(connection, job)
        event = batches.completed_event(batch, at)
        await outbox.put(connection, [(event.id, event.type, event.model_dump(mode="json"))])
        return job

    async def _follow(self, connection: postgres.Connection, job: NewJob) -> None:
        """A queue that has gone since the batch began must not keep it from ending."""
        (stored,) = await self._writer.put_within(connection, [job])
        if not stored.is_good:
            message = f"the job that follows its batch could not be stored in {job.queue}"
            await reject_within(connection, [Rejection(job, stored.verdict, message)])

    async def held(self, *, limit: int) -> list[UUID]:
        return [row["id"] for row in await self._database.fetch(SQL.held, limit)]

    async def free(self, batch_id: UUID, *, limit: int) -> int:
        async with self._database.transaction() as connection:
            rows = await connection.fetch(SQL.free, batch_id, limit)
            lanes = sorted(row["lane"] for row in rows if row["ready"])
            await connection.execute(SQL.activate, lanes)
        if lanes:
            await self._database.fetchval(SQL.wake, lanes)
        return sum(row["freed"] for row in rows)

    async def stopped(self, *, limit: int) -> Sequence[UUID]:
        return [row["id"] for row in await self._database.fetch(SQL.stopped, limit)]

    async def cancel(self, job_ids: Sequence[UUID]) -> None:
        await self._database.fetchval(SQL.cancel, job_ids)
