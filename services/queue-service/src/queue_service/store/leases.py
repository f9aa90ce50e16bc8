"""Leases in Postgres (migrations/0005_leases.sql)."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from chassis import postgres, sql
from chassis.crypto import SealBroken
from queue_service.core.attempts import Settlement, Status
from queue_service.core.leases import Ask, Beat, Held, Leased, Report, Served
from queue_service.core.leasing import Orphan
from queue_service.core.ports import Job
from queue_service.store.engine import sealed_result
from queue_service.store.sealing import ARGS, Seals
from queue_service.store.sealing import NONE as NO_SEALS

SQL = sql.queries(__file__)

MAX_LANES = 64


class PostgresLeases:
    """On connections with the engine's settings."""

    def __init__(self, database: postgres.Database, seals: Seals = NO_SEALS) -> None:
        self._database = database
        self._seals = seals

    async def served(self, queue: str) -> Served | None:
        row = await self._database.fetchrow(SQL.served, queue)
        return None if row is None else Served(*row)

    async def lease(self, ask: Ask, *, remembered_s: float) -> tuple[list[Leased], list[int]]:
        rows = await self._database.fetch(
            SQL.lease,
            ask.queue,
            ask.want,
            min(ask.want, MAX_LANES),
            ask.lease_s,
            ask.shop,
            ask.caller,
            ask.request_id,
            remembered_s,
        )
        jobs = [_leased(row, self._seals) for row in rows if row["o_dry"] is None]
        return jobs, [row["o_dry"] for row in rows if row["o_dry"] is not None]

    async def held(self, job_ids: Sequence[UUID]) -> Sequence[Held]:
        if not job_ids:
            return []
        return [Held(**row) for row in await self._database.fetch(SQL.held, job_ids)]

    async def settle(
        self, reports: Sequence[Report], settlements: Sequence[Settlement]
    ) -> list[Status]:
        if not reports:
            return []
        missed = await self._database.fetch(
            SQL.settle,
            [one.id for one in settlements],
            [one.lease_no for one in settlements],
            [one.verb.value for one in settlements],
            [one.delay_s for one in settlements],
            [
                sealed_result(one, said.result, self._seals)
                if said.outcome == "completed"
                else None
                for one, said in zip(settlements, reports, strict=True)
            ],
            [one.error for one in settlements],
            [one.id for one in settlements if one.unmark],
            [one.outcome for one in reports],
            [one.progress for one in reports],
        )
        statuses = [Status.SETTLED] * len(reports)
        for place, status in missed:
            statuses[place - 1] = Status(status)
        return statuses

    async def extend(
        self, beats: Sequence[Beat], *, extend_s: float | None, shop: str | None
    ) -> Mapping[tuple[UUID, int], bool]:
        rows = await self._database.fetch(
            SQL.extend,
            [one.id for one in beats],
            [one.lease_no for one in beats],
            [one.progress for one in beats],
            extend_s,
            shop,
        )
        return {(row["id"], row["lease_no"]): row["cancel_requested"] for row in rows}

    async def unheard(self, ask: Ask) -> bool:
        return bool(
            await self._database.fetchval(SQL.unheard, ask.caller, ask.queue, ask.request_id)
        )

    async def expired(self, limit: int) -> list[Orphan]:
        """By id, as all who settle take them."""
        rows = await self._database.fetch(SQL.expired, limit)
        return sorted((Orphan(*row) for row in rows), key=lambda orphan: orphan.id)

    async def forget_calls(self, *, older_than_s: float) -> None:
        await self._database.execute(SQL.forget_calls, older_than_s)


def _leased(row: Any, seals: Seals) -> Leased:
    known, is_broken = dict(row), False
    if isinstance(known["args"], str):
        try:
            known["args"] = seals.open(known["args"], known["id"], ARGS)
        except SealBroken:
            known["args"], is_broken = {}, True
    del known["o_dry"], known["lane"]
    lease_no, until = known.pop("lease_no"), known.pop("lease_until")
    snoozes = known.pop("snoozes")
    return Leased(Job(**known), lease_no, until, snoozes, is_broken)
