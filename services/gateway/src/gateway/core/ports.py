"""What the gateway needs of the world, named after the need."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from chassis.kernel import errors
from chassis.kernel.values import value
from gateway.core import keys
from gateway.core.parcels import Parcel, Waiting

Headers = Sequence[tuple[str, str]]


class Road(StrEnum):
    DIRECT = "direct"
    BUS = "bus"
    SPOOL = "spool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request to forward. `path` is raw, with its query; `timeout_s` 0 means only idleness ends
    it; `is_repeatable`: sending it twice is harmless; `is_own`: the gateway speaks for itself, as a
    service, not for a caller."""

    method: str
    path: str
    headers: Headers = ()
    body: bytes | AsyncIterator[bytes] | None = None
    identity: keys.Identity | None = None
    timeout_s: float
    is_repeatable: bool = False
    is_own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An owner's answer, its body still on the way. `length` is None when it did not say."""

    status: int
    headers: Mapping[str, str]
    length: int | None
    chunks: AsyncIterator[bytes]

    async def read(self) -> bytes:
        return b"".join([chunk async for chunk in self.chunks])


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the owner says of one parcel: a job, or a problem document with its status."""

    status: Literal["created", "existing", "rejected"]
    job: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """An API key to be kept. `repeat` is the Idempotency-Key it was asked for under, within
    `repeat_scope`; `fingerprint` tells another request under it."""

    key: keys.ApiKey
    repeat: str | None
    repeat_scope: str
    fingerprint: str


class Owner(Protocol):
    """A service behind its circuit. Unavailable: it has not happened. Ambiguous: it may have."""

    @property
    def name(self) -> str: ...

    def forward(self, order: Order) -> AbstractAsyncContextManager[Reply]: ...


class Direct(Protocol):
    """Road 1. Unavailable: another road is needed; the owner knows repeats."""

    @property
    def is_shut(self) -> bool: ...

    async def accept(self, parcel: Parcel, *, within_s: float | None = None) -> Verdict: ...

    async def accept_all(
        self, parcels: Sequence[Parcel], *, atomic: bool = False, promised: bool = False
    ) -> list[Verdict | errors.Fault]: ...

    async def has(self, job_id: UUID) -> bool: ...


class Bus(Protocol):
    """Road 2: returns once a quorum has the command."""

    @property
    def is_up(self) -> bool: ...

    async def send(self, parcels: Sequence[Parcel]) -> None: ...


class Spool(Protocol):
    """Road 3, and the list of what is on road 2. Unavailable while the database is away."""

    async def keep(self, parcels: Sequence[Parcel], *, road: Road, is_whole: bool) -> list[Waiting]:
        """Returns what was there already in place of some. With `is_whole`, one that collides with
        it (`refuse_other`) refuses all."""
        ...

    async def hurry(self, ids: Collection[UUID]) -> None:
        """Deliver these at the next chance."""
        ...

    async def find(self, job_id: UUID) -> Waiting | None: ...

    async def find_like(self, parcels: Sequence[Parcel]) -> list[Waiting]:
        """What waits under the same ids, or the same keys."""
        ...

    async def claim(self, limit: int) -> list[Parcel]:
        """The oldest that are due; nobody else gets them for a while."""
        ...

    async def done(self, ids: Collection[UUID]) -> None: ...

    async def later(self, ids: Collection[UUID], *, seconds: float) -> None: ...

    async def count(self) -> tuple[int, float]:
        """How many wait, and the age of the oldest in seconds."""
        ...


class QueueNames(Protocol):
    """The snapshot of the owner's queues."""

    async def replace(self, names: Collection[str]) -> None: ...

    async def read(self) -> list[str]: ...


class KeyStore(Protocol):
    async def find(self, key_id: str) -> keys.ApiKey | None: ...

    async def read(self) -> list[keys.ApiKey]: ...

    async def create(self, new: NewKey) -> tuple[keys.ApiKey, str]:
        """The kept key and its fingerprint: an earlier one's when this is a repeat."""
        ...

    async def delete(self, key_id: str, *, shop: str | None) -> bool: ...


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    number: int
    envelope: dict[str, Any]


class EventLog(Protocol):
    async def append(self, envelopes: Sequence[dict[str, Any]]) -> int:
        """How many of them are new."""
        ...

    async def after(self, number: int, *, shop: str | None, limit: int) -> list[LoggedEvent]: ...

    async def last(self) -> int: ...

    async def forget(self, *, days: float) -> int: ...


# ("shop", "s.myshopify.com"), ("user", key id) or ("ip", address): who a limit counts.
Subject = tuple[str, str]


class Demand(NamedTuple):
    """One token of each of these policies, for this shop, key and address; without `takes` only
    whether they may."""

    policies: tuple[str, ...]
    shop: str | None
    key_id: str | None
    address: str
    takes: bool = True


@value
class Limit:
    """One policy's state after a decision: `burst` tokens in `window_s`, one more in `reset_s`. A
    `shadow` limit never refuses."""

    policy: str
    burst: int
    remaining: int
    window_s: int
    reset_s: float
    violated: bool
    shadow: bool = False


@value
class Decision:
    """`backend`: who decided; `degraded`: what is said of it, if it is not as it should be."""

    allowed: bool
    limits: tuple[Limit, ...]
    retry_after_s: float
    backend: str
    degraded: str | None = None


@value
class Grant:
    """Tokens taken at once, to be spent here. `limit` is where the key stands now, if it said."""

    id: str | None
    tokens: int
    limit: Limit | None
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy as its owner describes it. A token comes every `t_us`."""

    id: str
    kind: str
    burst: int
    t_us: int
    shadow: bool
    is_leasable: bool
    on_failure: Literal["local", "open", "closed"]
    max_degraded_s: float


class Limiter(Protocol):
    """Every call raises Unavailable when nobody answered in time."""

    async def check(self, demand: Demand) -> Decision: ...

    async def answers(self) -> None:
        """Would it decide? Takes nothing."""
        ...

    async def lease(self, policy: str, subject: Subject, *, want: int, ttl_s: float) -> Grant:
        """Another Fault when it leases nothing of the kind."""
        ...

    async def give_back(self, lease: str, unspent: int) -> None: ...

    async def debit(self, policy: str, subject: Subject, tokens: int) -> Limit | None:
        """Tell of what was given out without it. Returns where the key stands now."""
        ...

    async def policies(self) -> list[Policy]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An owner's answer in the cache. `stored_at` is a Unix time."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    stored_at: float


class Shelf(Protocol):
    """Where answers are kept for a while. Unavailable: it is not there at the moment."""

    @property
    def backend(self) -> str: ...

    async def get(self, name: str) -> Kept | None: ...

    async def put(self, name: str, kept: Kept, *, ttl_s: int) -> None: ...
