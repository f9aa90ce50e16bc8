"""Retried, started now, and swept: what operators ask of jobs that are there."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from chassis import postgres, sql
from queue_service.core.ports import JobFilter
from queue_service.core.verbs import Sweep, Verb
from queue_service.store.jobs import PARTS

SQL = sql.queries(__file__)

# How many jobs are looked at to say how many match.
COUNT_MAX = 1_000_000


class PostgresVerbs:
    def __init__(self, database: postgres.Database) -> None:
        self._database = database

    async def retry(self, job_id: UUID) -> bool:
        rows = await self._database.fetch(SQL.retry, [job_id])
        await self._wake([row["o_lane"] for row in rows])
        return bool(rows)

    async def run_now(self, job_id: UUID) -> None:
        await self._wake(await self._database.fetchval(SQL.run_now, [job_id]))

    async def is_of_cancelled_batch(self, job_id: UUID) -> bool:
        return bool(await self._database.fetchval(SQL.batch_is_cancelled, job_id))

    async def count(self, wanted: JobFilter, states: Sequence[str]) -> int:
        found: int = await self._database.fetchval(
            SQL.count, _parts(states), wanted.since, wanted.until, states,
            *_conditions(wanted), COUNT_MAX,
        )  # fmt: skip
        return found

    async def ask(self, sweep: Sweep, *, matched: int) -> tuple[int, str]:
        said = {**asdict(sweep.wanted), "states": list(sweep.states)}
        async with self._database.transaction() as connection:
            if sweep.verb is Verb.REDACT:
                # First: what its schedules are making now is then older than the sweep.
                await connection.execute(SQL.forget_shop, sweep.wanted.shop, sweep.wanted.until)
            await connection.execute(
                SQL.ask, sweep.id, sweep.verb, said, matched, sweep.fingerprint, sweep.wanted.until
            )
            (row,) = await connection.fetch(SQL.asked, sweep.id)
        return row["matched"], row["fingerprint"]

    async def open(self, *, limit: int) -> list[UUID]:
        return [row["id"] for row in await self._database.fetch(SQL.open, limit)]

    async def step(self, sweep_id: UUID, *, looked_at: int) -> bool:
        async with self._database.transaction() as connection:
            sweep = await connection.fetchrow(SQL.lock, sweep_id)
            if sweep is None:
                return False
            seen = await _next(connection, sweep, looked_at)
            matching = [row["id"] for row in seen if row["matches"]]
            done = await _do(connection, Verb(sweep["verb"]), matching)
            is_over = len(seen) < looked_at
            last = (seen[-1]["created_at"], seen[-1]["id"]) if seen else (None, None)
            await connection.execute(SQL.move_on, sweep_id, len(done), *last, is_over)
        await self._wake([row["o_lane"] for row in done if row["o_lane"] is not None])
        return not is_over

    async def _wake(self, lanes: Sequence[int]) -> None:
        """After the commit."""
        if lanes:
            await self._database.fetchval(SQL.wake, sorted(set(lanes)))


async def _next(
    connection: postgres.Connection, sweep: asyncpg.Record, looked_at: int
) -> list[asyncpg.Record]:
    said = dict(sweep["filter"])
    states = said.pop("states")
    wanted = JobFilter(**{**said, **{name: _moment(said[name]) for name in ("since", "until")}})
    rows: list[asyncpg.Record] = await connection.fetch(
        SQL.step, _parts(states), wanted.since, sweep["at_created"], states,
        *_conditions(wanted), looked_at, sweep["at_id"],
    )  # fmt: skip
    return rows


async def _do(
    connection: postgres.Connection, verb: Verb, job_ids: Sequence[UUID]
) -> list[asyncpg.Record]:
    if not job_ids:
        return []
    blocks = {Verb.CANCEL: SQL.cancel, Verb.RETRY: SQL.retry, Verb.REDACT: SQL.redact}
    rows: list[asyncpg.Record] = await connection.fetch(blocks[verb], job_ids)
    return rows


def _parts(states: Sequence[str]) -> list[str]:
    return sorted({PARTS.get(state, "live") for state in states})


def _conditions(wanted: JobFilter) -> list[Any]:
    return [wanted.queue, wanted.shop, wanted.kind, wanted.tag, wanted.batch_id]


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
