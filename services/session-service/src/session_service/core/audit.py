"""What can happen to the tokens of a store. Said in the transaction of the change, so that nothing
is told that was rolled back and nothing committed goes untold; never with a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """The first five are events `session.<kind>.v1` too (contracts.events.SessionChanged)."""

    INSTALLED = "installed"
    REFRESHED = "refreshed"
    REAUTH_REQUIRED = "reauth_required"
    REVOKED = "revoked"
    SCOPES_CHANGED = "scopes_changed"
    # Told to whoever looks into a shop's history, not to other services.
    STORED = "stored"
    DELETED = "deleted"
    REJECTED = "rejected"
    REFRESH_FAILED = "refresh_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`grant` is contracts.events.SessionChanged.grant; `reason` a word of ours, never text that
    somebody sent; `version` the session's from then on."""

    kind: Kind
    session_id: str
    shop: str
    user_id: int | None
    version: int | None
    grant: str | None = None
    reason: str | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A change as it stands in the history. Numbers grow with time, and have gaps."""

    number: int
    at: datetime
    kind: str
    session_id: str
    user_id: int | None
    grant: str | None
    reason: str | None
    version: int | None


class HistoryStore(Protocol):
    """What happened to tokens."""

    async def of_shop(self, shop: str, *, before: int | None, limit: int) -> Sequence[Told]:
        """The newest first; those older than the one of that number."""
        ...

    async def delete_old(self, *, days: int, limit: int) -> int: ...
