"""Batches: many jobs that are filled, watched, held and stopped as one thing, which ends once.

A batch is finished when it is closed and every job in it has reached a final state; that moment is
one transaction with the event that tells of it and the job that follows it (`on_complete`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

from chassis.kernel import canonical, errors, ids
from chassis.kernel.clock import rfc3339
from contracts import events
from contracts import jobs as wire
from queue_service.core import ports
from queue_service.core.enqueue import due_at, key_reused, unknown_queue
from queue_service.core.jobs import NewJob
from queue_service.core.unique import unique_of

# Under this name the args of an `on_complete` job tell how the batch ended.
COUNTS = "batch"
SOURCE = "queue-service"


class Live(StrEnum):
    """What a batch's jobs can be before they end."""

    HELD = "held"
    SCHEDULED = "scheduled"
    READY = "ready"
    RUNNING = "running"
    RETRYING = "retrying"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """`defaults` is a JobSpec and `on_complete` a JobCreate, both as checked JSON documents."""

    id: UUID
    name: str
    kind: str
    queue: str
    shop: str | None
    defaults: Mapping[str, Any]
    on_complete: Mapping[str, Any] | None
    hold: bool
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch and where its jobs are, as of one moment: total = live + final."""

    id: UUID
    name: str
    kind: str
    queue: str
    shop: str | None
    defaults: Mapping[str, Any]
    on_complete: Mapping[str, Any] | None
    on_complete_id: UUID | None
    paused: bool
    total: int
    completed: int
    failed: int
    cancelled: int
    rejected_rows: int
    rate: float | None
    created_at: datetime
    closed_at: datetime | None
    cancelled_at: datetime | None
    finished_at: datetime | None
    live: Mapping[str, int] = field(default_factory=dict)

    @property
    def state(self) -> str:
        if self.cancelled_at is not None:
            return "cancelled"
        if self.finished_at is not None:
            return "finished"
        if self.paused:
            return "paused"
        return "closed" if self.closed_at is not None else "open"

    @property
    def remaining(self) -> int:
        return max(0, self.total - self.completed - self.failed - self.cancelled)

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the present rate; None while nobody can say."""
        if self.finished_at is not None:
            return 0.0
        return self.remaining / self.rate if self.rate else None


class BatchStore(Protocol):
    async def create(self, new: NewBatch) -> bool:
        """False when the id is there already."""
        ...

    async def fingerprint(self, batch_id: UUID) -> tuple[str, str | None]:
        """(fingerprint, shop) of what is there."""
        ...

    async def get(self, batch_id: UUID) -> Batch | None: ...

    async def newest(
        self, *, shop: str | None, after: ports.Position | None, limit: int
    ) -> Sequence[Batch]: ...

    async def close(self, batch_id: UUID) -> None: ...

    async def hold(self, batch_id: UUID, *, paused: bool) -> None: ...

    async def cancel(self, batch_id: UUID) -> None: ...


class Batches:
    """The life of a batch. `shop` is the caller's own: another's batches do not exist for it."""

    def __init__(
        self, *, batches: BatchStore, queues: ports.QueueNames, sweep_soon: "Wake"
    ) -> None:
        self._batches = batches
        self._queues = queues
        self._sweep_soon = sweep_soon

    async def create(self, new: NewBatch, *, keyed: bool) -> tuple[Batch, bool]:
        """(batch, created now). The same id with the same body is a repeat."""
        await self._require_queues(new)
        if await self._batches.create(new):
            return await self._known(new.id), True
        fingerprint, shop = await self._batches.fingerprint(new.id)
        if fingerprint == new.fingerprint and shop == new.shop:
            return await self._known(new.id), False
        if keyed:
            raise key_reused()
        raise errors.Conflict("the id belongs to something else", code="id_taken")

    async def _require_queues(self, new: NewBatch) -> None:
        wanted = {"/queue": new.queue}
        if new.on_complete is not None:
            wanted["/on_complete/queue"] = new.on_complete["queue"]
        for pointer, name in wanted.items():
            if not await self._queues.has(name):
                raise unknown_queue(name, pointer)

    async def get(self, batch_id: UUID, *, shop: str | None) -> Batch:
        batch = await self._batches.get(batch_id)
        if batch is None or (shop is not None and batch.shop != shop):
            raise errors.NotFound("there is no such batch")
        return batch

    async def newest(
        self, *, shop: str | None, after: ports.Position | None, limit: int
    ) -> Sequence[Batch]:
        return await self._batches.newest(shop=shop, after=after, limit=limit)

    async def close(self, batch_id: UUID, *, shop: str | None) -> Batch:
        """No more items. Closing twice is closing once."""
        await self.get(batch_id, shop=shop)
        await self._batches.close(batch_id)
        return await self._changed(batch_id)

    async def hold(self, batch_id: UUID, *, paused: bool, shop: str | None) -> Batch:
        """Nothing of the batch starts while it is paused; what runs goes on."""
        self._require_unfinished(await self.get(batch_id, shop=shop))
        await self._batches.hold(batch_id, paused=paused)
        return await self._changed(batch_id)

    async def cancel(self, batch_id: UUID, *, shop: str | None) -> Batch:
        """Closes it; what waits is cancelled, what runs is told to stop."""
        batch = await self.get(batch_id, shop=shop)
        if batch.cancelled_at is None:
            self._require_unfinished(batch)
            await self._batches.cancel(batch_id)
        return await self._changed(batch_id)

    def _require_unfinished(self, batch: Batch) -> None:
        if batch.finished_at is not None or batch.cancelled_at is not None:
            raise errors.Conflict(f"the batch is {batch.state}")

    async def _changed(self, batch_id: UUID) -> Batch:
        self._sweep_soon()
        return await self._known(batch_id)

    async def _known(self, batch_id: UUID) -> Batch:
        batch = await self._batches.get(batch_id)
        if batch is None:
            raise errors.NotFound("there is no such batch")
        return batch


class Wake(Protocol):
    def __call__(self) -> None: ...


def completed_event(batch: Batch, at: datetime) -> events.Envelope:
    """One for ever: its id comes out the same whoever makes it."""
    told = events.BatchCompleted(
        batch_id=batch.id,
        name=batch.name,
        shop=batch.shop,
        total=batch.total,
        completed=batch.completed,
        failed=batch.failed,
        cancelled=batch.cancelled,
        finished_at=at,
    )
    return events.Envelope(
        id=ids.derived_id("event", events.BATCH_COMPLETED, str(batch.id)),
        source=SOURCE,
        type=events.BATCH_COMPLETED,
        time=at,
        subject=str(batch.id),
        shop=batch.shop,
        data=told.model_dump(mode="json"),
    )


def completion_job(batch: Batch, at: datetime) -> NewJob | None:
    """The job that follows a batch. Under `COUNTS` its args tell how the batch ended."""
    if batch.on_complete is None:
        return None
    said = wire.JobCreate.model_validate_json(json.dumps(batch.on_complete))
    shop = said.shop or batch.shop
    return NewJob(
        id=ids.derived_id("batch", str(batch.id), "complete"),
        kind=said.kind,
        queue=said.queue,
        args={**said.args, COUNTS: _counts(batch, at)},
        fingerprint=canonical.fingerprint(batch.on_complete),
        shop=shop,
        priority=said.priority,
        run_at=due_at(said, at),
        max_attempts=said.max_attempts,
        timeout_s=said.timeout_s,
        tags=said.tags,
        retry=said.retry.model_dump() if said.retry is not None else None,
        notify=said.notify,
        unique=unique_of(said, shop=shop),
    )


def _counts(batch: Batch, at: datetime) -> dict[str, Any]:
    return {
        "id": str(batch.id),
        "name": batch.name,
        "shop": batch.shop,
        "state": "cancelled" if batch.cancelled_at is not None else "finished",
        "total": batch.total,
        "completed": batch.completed,
        "failed": batch.failed,
        "cancelled": batch.cancelled,
        "rejected_rows": batch.rejected_rows,
        "finished_at": rfc3339(at),
    }
