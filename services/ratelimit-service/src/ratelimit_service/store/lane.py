"""One connection of its own behind a circuit: a limiter must not wait for a pool others drain."""

import asyncio
import time
from typing import Any

import asyncpg

from chassis import postgres
from chassis.kernel import breaker, errors

POLICY = breaker.Policy(
    failures_to_open=3, hold_base_s=0.25, hold_max_s=1.0, trials=1, ramp_s=0.01, first_share=1.0
)
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

    def __init__(self, dsn: str, *, budget_s: float) -> None:
        self._dsn = dsn
        self._budget_s = budget_s
        self._session = SESSION | {"statement_timeout": str(int(budget_s * 1000))}
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection | None = None
        self.circuit = breaker.Breaker("postgres", monotonic=time.monotonic, policy=POLICY)

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        async with self._turn:
            ticket = self.circuit.admit(essential=True)
            if ticket is None:
                raise errors.Unavailable(
                    "the database does not answer", code="database_unavailable"
                )
            try:
                rows = await self._fetch(sql, *args)
            except BaseException as error:
                if isinstance(error, errors.Unavailable):
                    self.circuit.failure(ticket)
                else:
                    self.circuit.ignore(ticket)
                self.close()
                raise
            self.circuit.success(ticket)
            return rows

    async def _fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        with postgres.errors_mapped():
            async with asyncio.timeout(self._budget_s):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(
                        self._dsn, server_settings=self._session
                    )
                rows: list[asyncpg.Record] = await self._connection.fetch(sql, *args)
                return rows

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
