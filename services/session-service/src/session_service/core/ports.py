"""What session-service needs of the world, named after the need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from session_service.core.answers import Reply
from session_service.core.grants import State
from session_service.core.sealing import Parts, Sealed


@dataclass(frozen=True, slots=True)
class Gone:
    """A session that is no more, and the version that every copy of it is older than."""

    id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """What a browser was sent to Shopify for. `return_to` is a path of the app."""

    shop: str
    is_online: bool
    return_to: str | None
    host: str | None


class SessionStore(Protocol):
    """The record. Raises Unavailable while it does not answer."""

    async def find(self, ids: Sequence[str]) -> Sequence[Sealed]: ...

    async def of_shop(self, shop: str, *, after: str | None, limit: int) -> Sequence[Sealed]:
        """By id, those after the given one."""
        ...

    async def newest_of(self, shop: str, *, user_id: int | None) -> Sealed | None:
        """The session written last: of that user, or offline."""
        ...

    async def put(
        self, row: Sealed, *, over: int | None, ends_ms: int | None, key_id: str, has_new_pair: bool
    ) -> int | None:
        """The new version; None when the version there is not `over` (None: no row) any more."""
        ...

    async def retired(self, session_id: str) -> Sequence[str]:
        """Fingerprints of the pairs that grants have replaced."""
        ...

    async def delete(self, ids: Sequence[str], *, shop: str | None) -> Sequence[Gone]:
        """`shop` None: whatever theirs is."""
        ...

    async def delete_shop(self, shop: str, *, granted_by: datetime | None) -> Sequence[Gone]: ...

    async def delete_ended(self, *, grace_s: float, limit: int) -> Sequence[Gone]: ...


class InstallationStore(Protocol):
    """Sessions of a shop whose installation has changed, as far as they were granted by a moment.
    Answers with those that nobody may remember as they were, and tells of them in the same
    transaction."""

    async def uninstalled(self, shop: str, *, before: datetime) -> Sequence[Gone]: ...

    async def scopes_updated(self, shop: str, *, scope: str, at: datetime) -> Sequence[Gone]: ...

    async def redacted(
        self, shop: str, *, before: datetime, event_id: UUID, event: dict[str, Any]
    ) -> Sequence[Gone]: ...


class KeyStore(Protocol):
    """What is sealed of the rows of the record."""

    async def under_others(self, key_id: str, *, after: str, limit: int) -> Sequence[Parts]:
        """Rows that this key alone does not open, by id, those after the given one."""
        ...

    async def again(self, ids: Sequence[str], key_id: str) -> Sequence[Parts]:
        """Those of the given rows that this key alone does not open."""
        ...

    async def reseal(self, rows: Sequence[Parts]) -> int:
        """How many were still as they had been read, and nobody was writing them."""
        ...

    async def count_under_others(self, key_id: str, *, after: str) -> int: ...


class StateStore(Protocol):
    """Authorizations under way, by digests: of the state, and of what the browser alone keeps."""

    async def keep(
        self, state: bytes, browser: bytes, begun: Authorization, *, life_s: float
    ) -> None: ...

    async def claim(
        self, state: bytes, browser: bytes, *, shop: str, owner: UUID, hold_s: float
    ) -> tuple[Authorization, bool] | None:
        """What was begun, and whether it is ours to end now. None: there is nothing to be ended."""
        ...

    async def release(self, state: bytes, *, owner: UUID) -> None: ...

    async def finish(self, state: bytes, *, owner: UUID) -> None: ...

    async def delete_ended(self, *, limit: int) -> int: ...


class RunStore(Protocol):
    async def claim(self, name: str, *, period_s: float, stuck_s: float) -> bool:
        """True for one caller in a period, or later for the one who takes up what was left."""
        ...

    async def finish(self, name: str, *, handled: int) -> None: ...


class Copies(Protocol):
    """Sealed copies for the time in which the record does not answer. Nothing here ever fails:
    what cannot be kept is not kept, and what could not be forgotten is owed."""

    @property
    def is_present(self) -> bool: ...

    async def keep(self, copies: Sequence[tuple[str, int, str]]) -> bool:
        """(id, version, text) each; older than what is there changes nothing. False: not kept."""
        ...

    async def find(self, session_id: str) -> str | None: ...

    async def forget(self, gone: Sequence[Gone]) -> None: ...

    async def settle(self) -> None:
        """Try again to forget what is owed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a grant writes. `row` carries the gen and version that it was made from; `retired` is
    the fingerprint of the pair that goes; `event` one of audit.Kind; `is_rescoped`: the shop grants
    other scopes than before."""

    row: Sealed
    ends_ms: int | None
    key_id: str
    way: str
    granted_at: datetime | None
    event: str
    is_rescoped: bool = False
    retired: str | None = None


@dataclass(frozen=True, slots=True)
class Warm:
    """A pair that must not be left to end."""

    id: str
    shop: str
    gen: int


@dataclass(frozen=True, slots=True)
class Endless:
    """A token without an end."""

    id: str
    shop: str


class GrantStore(Protocol):
    """Every write is on (lease, owner) and on the pair that was found: None when either is
    another's by now. Each tells its event in the same transaction."""

    async def find(self, session_id: str) -> tuple[Sealed, State] | None: ...

    async def insert(self, new: Granted, *, lease: str, owner: UUID) -> int | None:
        """The version of a row that there was not before."""
        ...

    async def commit(
        self, new: Granted, *, lease: str, owner: UUID, rejected_at: datetime | None
    ) -> int | None:
        """The version. `rejected_at`: Shopify had refused the token before."""
        ...

    async def put_off(
        self,
        session_id: str,
        *,
        owner: UUID,
        gen: int,
        is_refusal: bool,
        until: datetime,
        reason: str,
        way: str,
    ) -> None: ...

    async def give_up(
        self, session_id: str, *, owner: UUID, gen: int, reason: str, way: str
    ) -> int | None:
        """The version from which on the shop must authorize the app again."""
        ...

    async def warm(
        self, *, now_ms: int, within_ms: int, urgent_ms: int, hour: int, limit: int
    ) -> Sequence[Warm]: ...

    async def endless(self, *, now: datetime, limit: int) -> Sequence[Endless]: ...

    async def count_endless(self) -> int: ...

    async def postpone(self, session_id: str, *, until: datetime) -> None:
        """One without an end, that could not get one."""
        ...


class LeaseStore(Protocol):
    """One owner of a name at a time; a lease that is not renewed ends by itself."""

    async def take(self, session_id: str, owner: UUID, *, life_s: float) -> bool: ...

    async def renew(self, session_id: str, owner: UUID, *, life_s: float) -> bool: ...

    async def drop(self, session_id: str, owner: UUID) -> None: ...

    async def delete_ended(self) -> None:
        """Those that dead processes left behind an hour ago."""
        ...


class TokenEndpoint(Protocol):
    async def ask(self, shop: str, body: Mapping[str, str]) -> Reply:
        """Sent once. Raises Unavailable when no answer came, whatever was done by then."""
        ...
