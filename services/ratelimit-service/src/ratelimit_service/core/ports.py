"""What the limiter needs of the world, named after the need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from chassis.kernel.values import value
from contracts.ratelimits import Backend
from ratelimit_service.core import gcra


class Missed(Exception):
    """Redis is absent, slow, failing, or not the one that the epoch names."""


class Unsettled(Exception):
    """A replica has not followed the last change of the decider yet: ask again in a moment."""


class Moved(Exception):
    """Another backend decides now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Who decides. `seq` grows with every change, `gen` with every return to Redis; `mark` and
    `run_id` name the Redis of this generation."""

    seq: int
    gen: int
    backend: Backend
    mark: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a heartbeat learns. `age_us`: since the epoch changed. `may_open`: every live replica
    sees the same Redis and has followed the epoch, and it is ours to open the next one."""

    epoch: Epoch
    age_us: int
    replicas: int
    may_open: bool


class Epochs(Protocol):
    """The row that names the decider. All raise Unavailable."""

    async def beat(self, *, run_id: str | None, seq: int) -> Standing: ...

    async def depart(self, epoch: Epoch) -> None:
        """Postgres decides from here on, unless somebody was faster than `epoch`."""
        ...

    async def open(self, epoch: Epoch, *, run_id: str, mark: str) -> bool: ...


class Answered(StrEnum):
    REFUSED = "refused"
    PASSED = "passed"
    UNKNOWN = "unknown"


@value
class Found:
    """Redis's word on one check; UNKNOWN when it lacks a key whose debt Postgres may know."""

    answer: Answered
    levels: tuple[gcra.Level, ...]


class RedisBuckets(Protocol):
    """All raise Missed."""

    async def run_id(self) -> str:
        """The server process we are connected to; connects when needed."""
        ...

    async def plant(self, mark: str) -> None: ...

    async def unplant(self, mark: str) -> None:
        """Nobody decides by this mark any more; another one stays."""
        ...

    async def decide(
        self,
        epoch: Epoch,
        batch: gcra.Batch,
        debts: Mapping[str, gcra.Level | None],
        *,
        patient: bool,
    ) -> Sequence[Found]:
        """`debts`: for a key that may be absent wrongly, what Postgres knows, or None for not
        asked yet. Keys that are not named are full when absent. `patient`: nobody else can
        decide, so a slow answer is better than none."""
        ...


class PostgresBuckets(Protocol):
    """All raise Unavailable."""

    async def decide(self, batch: gcra.Batch, *, is_pinned: bool = False) -> Sequence[gcra.Verdict]:
        """Raises Moved and Unsettled too, unless every key of the batch is always decided here."""
        ...

    async def debts(
        self, paces: Mapping[str, gcra.Pace], windows: Mapping[str, gcra.Window]
    ) -> Mapping[str, gcra.Level]: ...

    async def merge(self, debts: Mapping[str, gcra.Level]) -> None:
        """Keep the larger of what is there and what is given: repeats change nothing."""
        ...

    async def put(self, debts: Mapping[str, gcra.Level]) -> None:
        """What is given replaces what is there."""
        ...
