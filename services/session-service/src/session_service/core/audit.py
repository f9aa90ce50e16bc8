"""What can happen to the tokens of a store. Said in the transaction of the change, so that nothing
is told that was rolled back and nothing committed goes untold; never with a token.
"""

from dataclasses import dataclass
from enum import StrEnum


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
