"""The heartbeat's own connection. It must not wait behind a pool that the event loop uses."""

from uuid import UUID

import asyncpg

from chassis import postgres, sql
from chassis.kernel import errors
from queue_service.core.leasing import Held

SQL = sql.queries(__file__)
TIMEOUT_S = 3.0


class PostgresPulse:
    """Connects when it must; a connection that failed is dropped."""

    def __init__(self, dsn: str, *, pooled: bool = False) -> None:
        self._dsn = dsn
        self._pooled = pooled
        self._connection: asyncpg.Connection | None = None

    async def register(self, worker: UUID, name: str) -> None:
        await self._fetch(SQL.register, worker, name)

    async def beat(self, worker: UUID) -> list[Held] | None:
        """What the database thinks the worker holds; None when it thinks it dead."""
        if not await self._fetch(SQL.beat, worker):
            return None
        try:
            rows = await self._fetch(SQL.held, worker)
        except errors.Unavailable:
            return []  # the beat has counted; what is held is told by a later one
        return [Held(UUID(bytes=row[0].bytes), row[1], row[2], row[3]) for row in rows]

    async def sign_off(self, worker: UUID) -> None:
        await self._fetch(SQL.sign_off, worker)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _fetch(self, statement: str, *args: object) -> list[asyncpg.Record]:
        try:
            with postgres.errors_mapped():
                connection = await self._connected()
                rows: list[asyncpg.Record] = await connection.fetch(
                    statement, *args, timeout=TIMEOUT_S
                )
                return rows
        except BaseException:
            await self.close()
            raise

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._dsn,
                timeout=TIMEOUT_S,
                **postgres.options(application="queue-worker-pulse", pooled=self._pooled),
            )
        return self._connection
