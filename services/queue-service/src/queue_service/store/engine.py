"""Claim, settle, beat, rescue: what workers do in Postgres, fenced by lease numbers.

The statements themselves are functions of the database (migrations/0021_floors.sql and
0015_settle.sql), since they must be several in one transaction.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any
from uuid import UUID

import asyncpg

from chassis import postgres, sql
from chassis.kernel.clock import rfc3339
from queue_service.core.attempts import Claimed, Settlement, Status, Verb
from queue_service.core.lanes import MOST_NEAR, LaneMemory, Look
from queue_service.core.leasing import Claim, Orphan, WorkerQueue
from queue_service.store.columns import sparse
from queue_service.store.sealing import NONE as NO_SEALS
from queue_service.store.sealing import RESULT, Seals

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
    def __init__(self, database: postgres.Database, seals: Seals = NO_SEALS) -> None:
        self._database = database
        self._seals = seals
        self._lanes: dict[str, LaneMemory] = {}

    async def worker_queues(self) -> list[WorkerQueue]:
        return [WorkerQueue(*row) for row in await self._database.fetch(SQL.worker_queues)]

    async def wake(self, lanes: Sequence[int]) -> bool:
        """True if one of them had ready jobs after all, as far as this claimer would see them."""
        if not lanes:
            return False
        floors: dict[int, Sequence[int]] = {}
        for memory in self._lanes.values():
            floors |= memory.floors(lanes)
        places = [place for of_lane in floors.values() for place in of_lane]
        woken = await self._database.fetchval(SQL.wake, sorted(set(lanes)), list(floors), places)
        return bool(woken)

    async def wake_sleepers(self, *, after: int, limit: int) -> int:
        """Looks through a slice of the sleeping lanes; the last of them, 0 at the end."""
        lanes = [row["id"] for row in await self._database.fetch(SQL.sleeping, after, limit)]
        if lanes:
            await self._database.fetchval(SQL.wake, lanes, [], [])
        return lanes[-1] if len(lanes) == limit else 0

    async def settle(self, settlements: Sequence[Settlement]) -> list[Status]:
        """A status for each, in order, after the commit."""
        rows = await self._database.fetch(SQL.settle, *_columns(settlements, self._seals))
        return _statuses(len(settlements), rows)

    async def settle_and_claim(
        self, settlements: Sequence[Settlement], claim: Claim
    ) -> tuple[list[Status], list[Claimed], list[int]]:
        memory = self._lanes.setdefault(claim.queue, LaneMemory())
        if memory.is_to_look(began := time.monotonic()):
            near = await self._database.fetch(SQL.near_lanes, claim.queue, MOST_NEAR)
            memory.looked([row[0] for row in near], began=began, now=time.monotonic())
        asked_at = time.monotonic()
        look = memory.look(want=claim.want, limit=claim.lanes, now=asked_at)
        try:
            rows = await self._database.fetch(
                SQL.settle_and_claim,
                *_columns(settlements, self._seals),
                claim.queue,
                claim.worker,
                claim.want,
                look.lanes,
                look.near,
                look.head_lanes,
                look.heads,
                look.floors,
                look.debt_lanes,
                look.debts,
            )
        except asyncpg.PostgresError:
            if not settlements:
                raise
            return [await self._settle_alone(one) for one in settlements], [], []
        missed = [(row[2], row[3]) for row in rows if row[0] is None]
        jobs = [row for row in rows if row[1] is not None]
        told = [row for row in rows if row[1] is None and row[0] is not None]
        dry = self._learn(memory, look, claim, jobs, told)
        memory.took(time.monotonic() - asked_at, now=asked_at)
        statuses = _statuses(len(settlements), missed)
        if claim.want > 0 and not jobs and look.near is not None:
            # Of those it remembered nothing was left; that says nothing of the others.
            _, found, more = await self.settle_and_claim([], claim)
            return statuses, found, [*dry, *more]
        return statuses, claimed(claim.queue, jobs, self._seals), dry

    def _learn(
        self, memory: LaneMemory, look: Look, claim: Claim, jobs: list[Any], told: list[Any]
    ) -> list[int]:
        dry = []
        for lane, _, _, what, _, count, *_ in told:
            if what == "dry":
                dry.append(lane)
            elif what == "owed":
                memory.owe(lane, count)
            else:
                memory.paid(lane)
        if claim.want > 0:
            memory.learn(
                look, want=claim.want, heads=[(row[0], row[15], row[16]) for row in jobs], dry=dry
            )
        return dry

    async def _settle_alone(self, one: Settlement) -> Status:
        """An ending that no row can hold is final all the same: its effect may have happened."""
        try:
            return (await self.settle([one]))[0]
        except asyncpg.PostgresError as error:
            said = {"type": "unstorable", "message": type(error).__name__, "retryable": False}
            told = {"attempt": 0, "at": rfc3339(datetime.now(UTC)), "duration_ms": None, **said}
            failed = one._replace(verb=Verb.FAILED, delay_s=0.0, result=None, error=told)
            return (await self.settle([failed]))[0]

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


def _columns(settlements: Sequence[Settlement], seals: Seals) -> list[Any]:
    return [
        [one.id for one in settlements],
        [one.lease_no for one in settlements],
        sparse([one.verb.value for one in settlements], Verb.COMPLETED.value),
        sparse([one.delay_s for one in settlements], 0.0),
        sparse([sealed_result(one, one.result, seals) for one in settlements]),
        sparse([one.error for one in settlements]),
        [one.id for one in settlements if one.unmark],
    ]


def sealed_result(settlement: Settlement, result: Any, seals: Seals) -> Any:
    if result is None or not settlement.is_sealed:
        return result
    return seals.seal(result, settlement.id, RESULT)


def _statuses(count: int, missed: Iterable[Any]) -> list[Status]:
    statuses = [Status.SETTLED] * count
    for place, status in missed:
        statuses[place - 1] = Status(status)
    return statuses


def claimed(queue: str, rows: Sequence[Any], seals: Seals) -> list[Claimed]:
    """`rows`: as take_ready answers them, up to the args; these are parsed all at once."""
    jobs = []
    known = postgres.loads(f"[{','.join([row[14] for row in rows])}]")
    for row, given in zip(rows, known, strict=True):
        (lane, job_id, lease_no, kind, shop, attempt, max_attempts, snoozes, timeout_s, retry, tags,
         batch_id, created_at, run_at, *_) = row  # fmt: skip
        args, is_sealed, is_broken = seals.opened_args(given, job_id)
        jobs.append(
            Claimed(
                id=job_id,
                lease_no=lease_no,
                lane=lane,
                queue=queue,
                kind=kind,
                shop=shop,
                attempt=attempt,
                max_attempts=max_attempts,
                snoozes=snoozes,
                timeout_s=timeout_s,
                retry=_policy(retry),
                tags=tags,
                batch_id=batch_id,
                created_at=created_at,
                run_at=run_at,
                args=args,
                is_sealed=is_sealed,
                is_broken=is_broken,
            )
        )
    return jobs


@lru_cache(maxsize=1024)
def _policy(text: str) -> Mapping[str, float]:
    """The same few over and over."""
    return MappingProxyType(dict(postgres.loads(text)))


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

    async def forget_leavings(self, *, older_than_d: int, limit: int) -> int:
        return int(await self._database.fetchval(SQL.forget_leavings, older_than_d, limit))

    async def forget_history(self, limit: int) -> bool:
        return bool(await self._database.fetchval(SQL.forget_history, limit))

    async def overflowing(self) -> int:
        """Rows for which no day was there (at most a thousand of each kind are counted)."""
        return int(await self._database.fetchval(SQL.overflowing))
