"""The bare limit beside which our figures stand: the same work by asyncpg, and nothing else.

No fairness, no ids checked against history, no retries: what a loop of a hundred lines can do on
this machine, with the same coalescing, the same batches and the same durability.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import uuid_utils

BATCH = 500
CHANNEL = "bare"

SCHEMA = """
create table bare_job (
    id uuid primary key, kind text not null, args jsonb not null, state smallint not null default 0,
    priority smallint not null default 5, seq bigint generated always as identity,
    created_at timestamptz not null default now()
) with (fillfactor = 70);
create index bare_ready on bare_job (priority, seq) where state = 0;
create table bare_history (
    id uuid, kind text, args jsonb, result jsonb, finished_at timestamptz not null default now()
);
"""
INSERT = """
with inserted as (
    insert into bare_job (id, kind, args)
    select * from unnest($1::uuid[], $2::text[], $3::jsonb[])
)
select pg_notify('bare', '')
"""
SETTLE_AND_CLAIM = """
with settled as (delete from bare_job where id = any($1::uuid[]) returning id, kind, args),
kept as (insert into bare_history (id, kind, args, result) select id, kind, args, '{}' from settled)
update bare_job set state = 1 where id in (
    select id from bare_job where state = 0 order by priority, seq limit $2 for update skip locked)
returning id, kind, args
"""


Row = tuple[UUID, str, str]


def row(kind: str, args: dict[str, object]) -> Row:
    return UUID(str(uuid_utils.uuid7())), kind, json.dumps(args)


async def insert(connection: asyncpg.Connection, rows: Sequence[Row]) -> None:
    ids, kinds, args = zip(*rows, strict=True)
    await connection.execute(INSERT, ids, kinds, args)


class Inserts:
    """Concurrent calls coalesce: while one statement is in flight the next gathers."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._waiting: list[tuple[Row, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def enqueue(self, kind: str, args: dict[str, object]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row(kind, args), done))
        self._wake.set()
        await done

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                await insert(self._connection, [row for row, _ in batch])
                for _, done in batch:
                    done.set_result(None)


async def drain(connection: asyncpg.Connection) -> int:
    """Everything that is ready, history kept; how many."""
    held: list[UUID] = []
    done = 0
    while True:
        rows = await connection.fetch(SETTLE_AND_CLAIM, held, BATCH)
        done += len(held)
        held = [row["id"] for row in rows]
        for row in rows:
            json.loads(row["args"])
        if not held:
            return done
