"""One connection of its own: a limiter must not wait for a pool that others drain."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import asyncpg

from chassis import postgres
from chassis.kernel import errors

# A time-out that comes so many budgets late was not Postgres's doing.
STOOD_STILL = 1.5

SESSION = {
    "application_name": "ratelimit-service lane",
    "timezone": "UTC",
    "jit": "off",
    # Every statement finds its rows by key; statistics of a table that was small a moment ago must
    # not lead it elsewhere.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # The record of a limit may lose its last moments in a crash; a disk flush per batch would be
    # most of the time of a decision.
    "synchronous_commit": "off",
}


class Lane:
    """One statement at a time, each within `budget_s`. Raises Unavailable."""

    def __init__(
        self,
        dsn: str,
        *,
        budget_s: float,
        is_durable: bool = False,
        on_cut: Callable[[], None] = lambda: None,
    ) -> None:
        """`is_durable`: what has been answered outlives a crash, and each batch waits for that.
        `on_cut`: the other side has ended the connection, as it does in a crash."""
        self._dsn = dsn
        self._on_cut = on_cut
        self._budget_s = budget_s
        self._session = SESSION | {"statement_timeout": str(int(budget_s * 1000))}
        if is_durable:
            self._session["synchronous_commit"] = "on"
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection | None = None

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """Once more when it was us who stood still: then a time-out says nothing of Postgres. No
        statement of ours gives out more for being repeated."""
        async with self._turn:
            began = time.monotonic()
            try:
                return await self._attempt(sql, *args)
            except errors.Unavailable:
                if time.monotonic() - began < self._budget_s * STOOD_STILL:
                    raise
            return await self._attempt(sql, *args)

    async def _attempt(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        try:
            return await self._fetch(sql, *args)
        except BaseException:
            # It may be half done; the next statement begins on a fresh connection.
            self.close()
            raise

    async def _fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        with postgres.errors_mapped():
            async with asyncio.timeout(self._budget_s):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(
                        self._dsn, server_settings=self._session
                    )
                    self._connection.add_termination_listener(self._ended)
                rows: list[asyncpg.Record] = await self._connection.fetch(sql, *args)
                return rows

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _ended(self, connection: Any) -> None:
        if connection is self._connection:
            self._on_cut()
