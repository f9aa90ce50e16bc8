"""Reads of the record: many callers, one statement at a time.

While a statement is in flight the ids for the next one gather. A circuit keeps callers from waiting
for a database that does not answer: they are told at once, and one statement at a time tries.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context

from chassis.kernel import breaker, deadline, errors
from chassis.kernel.clock import Clock
from session_service.core.sealing import Sealed

# Long enough for a busy database, short enough to have time left for a copy.
BUDGET_S = 1.0
MAX_IDS = 500
POLICY = breaker.Policy(
    failures_to_open=2, hold_base_s=0.25, hold_max_s=2.0, trials=1, ramp_s=0.5, first_share=0.5
)

Find = Callable[[Sequence[str]], Awaitable[Sequence[Sealed]]]
Seen = Callable[[Sequence[Sealed]], Awaitable[None]]
Read = tuple[Sealed | None, float]


class Reader:
    """`read` → (row or None, the monotonic time it is not older than), or Unavailable.

    `seen` is told of what was read, after its readers were answered.
    """

    def __init__(self, *, find: Find, seen: Seen, clock: Clock) -> None:
        self.circuit = breaker.Breaker("postgres", monotonic=clock.monotonic, policy=POLICY)
        self._find = find
        self._seen = seen
        self._clock = clock
        self._waiting: dict[str, asyncio.Future[Read]] = {}
        self._turns: asyncio.Task[None] | None = None

    async def read(self, session_id: str) -> Read:
        if self.circuit.state is breaker.State.OPEN:
            raise _away()
        future = self._waiting.get(session_id)
        if future is None:
            future = self._waiting[session_id] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_look_at)
            self._take_turns()
        budget_s = deadline.budget_s(BUDGET_S)
        try:
            async with asyncio.timeout(budget_s):
                return await asyncio.shield(future)
        except TimeoutError:
            if budget_s == BUDGET_S:
                self.circuit.force_open()
            raise _away() from None

    async def close(self) -> None:
        if self._turns is not None:
            self._turns.cancel()
            await asyncio.wait([self._turns])

    def _take_turns(self) -> None:
        if self._turns is None or self._turns.done():
            # A context of its own: the statement serves many, not the first caller's deadline.
            self._turns = asyncio.get_running_loop().create_task(
                self._run(), name="session-reads", context=Context()
            )

    async def _run(self) -> None:
        while self._waiting:
            ids = list(self._waiting)[:MAX_IDS]
            futures = {each: self._waiting.pop(each) for each in ids}
            try:
                await self._turn(futures)
            finally:
                for future in futures.values():
                    if not future.done():
                        future.set_exception(_away())

    async def _turn(self, futures: dict[str, asyncio.Future[Read]]) -> None:
        ticket = self.circuit.admit(essential=True)
        if ticket is None:
            return
        as_of = self._clock.monotonic()
        try:
            async with asyncio.timeout(BUDGET_S):
                rows = await self._find(list(futures))
        except errors.Unavailable:
            self.circuit.failure(ticket)
            return
        except TimeoutError:
            self.circuit.force_open()
            return
        except BaseException:
            self.circuit.ignore(ticket)
            raise
        self.circuit.success(ticket)
        found = {row.id: row for row in rows}
        for session_id, future in futures.items():
            future.set_result((found.get(session_id), as_of))
        await self._seen(rows)


def _away() -> errors.Unavailable:
    return errors.Unavailable("the database does not answer", code="database_unavailable")


def _look_at(future: asyncio.Future[Read]) -> None:
    """Every waiter may have left before the answer came."""
    if not future.cancelled():
        future.exception()
