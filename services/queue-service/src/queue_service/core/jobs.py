"""What a job is while it is on its way in: the shape every road brings, and what became of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """A job that is to be the only one under `key` (16 bytes) while it is in one of `states`, and
    for `window_s` from its creation. `on_conflict` is what becomes of the one that was there."""

    key: bytes
    on_conflict: str
    states: Sequence[str] = ()
    window_s: float | None = None


class NewJob(NamedTuple):
    """A job to store. (A tuple: thousands are made a second.)

    None means the queue's default; `run_at` None means at once.
    `is_secret`: the id was made for this very call and nobody has been told it, so that it cannot
    have ended before. `fingerprint` is that of the caller's body without its id. `scope` and `key`
    are those of an Idempotency-Key. `created_at` is when it was promised; None: now. `held`: its
    batch is paused.
    """

    id: UUID
    kind: str
    queue: str
    args: Mapping[str, Any]
    fingerprint: str
    shop: str | None = None
    priority: int = 5
    run_at: datetime | None = None
    created_at: datetime | None = None
    max_attempts: int | None = None
    timeout_s: float | None = None
    tags: Sequence[str] = ()
    retry: Mapping[str, float] | None = None
    notify: bool = False
    batch_id: UUID | None = None
    held: bool = False
    scope: str = ""
    key: str | None = None
    is_secret: bool = False
    unique: Unique | None = None


class Verdict(StrEnum):
    CREATED = "created"
    EXISTING = "existing"
    MERGED = "merged"
    ID_TAKEN = "id_taken"
    KEY_REUSED = "key_reused"
    UNKNOWN_QUEUE = "unknown_queue"
    UNIQUE_CONFLICT = "unique_conflict"


class Stored(NamedTuple):
    """What became of one. `id` is the job's: for a repeated key an earlier one's, for one merged or
    in conflict that of the unique job. The rest is known of live jobs only. `is_handed`: a worker
    that was idle has it already."""

    verdict: Verdict
    id: UUID
    state: str | None = None
    run_at: datetime | None = None
    created_at: datetime | None = None
    max_attempts: int | None = None
    is_handed: bool = False

    @property
    def is_good(self) -> bool:
        return self.verdict in (Verdict.CREATED, Verdict.EXISTING, Verdict.MERGED)


class Intake(Protocol):
    """Where new jobs are stored. Unavailable: nothing is known; a repeat with the ids is safe."""

    async def put(self, jobs: Sequence[NewJob]) -> Sequence[Stored]:
        """Each by itself; a verdict for each, in order, after the commit."""
        ...

    async def put_all(self, jobs: Sequence[NewJob]) -> Sequence[Stored]:
        """All, or none when one verdict is not good."""
        ...
