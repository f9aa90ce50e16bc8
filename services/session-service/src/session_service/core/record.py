"""A session of a store: what it is, which ids name which shop, and what a PUT may change.

Tokens are held apart from the rest of the document, because grants replace them alone. They are
secrets by their type, and no part of any repr.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from chassis.kernel import canonical, errors
from chassis.kernel.secret import Secret

OFFLINE_PREFIX = "offline_"
SECRETS = ("accessToken", "refreshToken")
# Members with a column of their own: the document keeps their place, the column their value.
MOVED = (*SECRETS, "expires", "refreshTokenExpires", "scope")

_USERS_ID = re.compile(
    r"(?P<shop>[a-z0-9][a-z0-9_.-]*\.myshopify\.com)_.+"
    r"|(?P<other>[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9-]+)+)_[0-9]+",
    re.DOTALL,
)
_INT64_MAX = 2**63 - 1


class Status(StrEnum):
    ACTIVE = "active"
    REAUTH_REQUIRED = "reauth_required"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A pair and what is known of it. Times in epoch milliseconds; None: it is not known to end."""

    access: str | None = field(default=None, repr=False)
    refresh: str | None = field(default=None, repr=False)
    expires_ms: int | None = None
    refresh_expires_ms: int | None = None

    def __post_init__(self) -> None:
        _hide(self, "access", "refresh")

    @property
    def is_empty(self) -> bool:
        return not (self.access or self.refresh)

    def has_ended(self, now_ms: int) -> bool:
        return self.expires_ms is not None and self.expires_ms <= now_ms

    def same_pair(self, other: "Tokens") -> bool:
        return (self.access, self.refresh) == (other.access, other.refresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopifySession:
    """`shop` is in its key form, the document's own spelling stays in `rest`. `gen` and `version`
    are 0 until it is stored."""

    id: str
    shop: str
    is_online: bool
    user_id: int | None
    scope: str | None
    tokens: Tokens
    rest: Mapping[str, Any] = field(repr=False)
    previous_refresh: str | None = field(default=None, repr=False)
    status: Status = Status.ACTIVE
    gen: int = 0
    version: int = 0

    def __post_init__(self) -> None:
        _hide(self, "previous_refresh")

    def document(self, *, with_secrets: bool) -> dict[str, Any]:
        """The session as it was given, with the tokens of today."""
        values = {
            "accessToken": self.tokens.access,
            "refreshToken": self.tokens.refresh,
            "expires": self.tokens.expires_ms,
            "refreshTokenExpires": self.tokens.refresh_expires_ms,
            "scope": self.scope,
        }
        shown = dict(self.rest) | {
            name: value for name, value in values.items() if value is not None
        }
        if not with_secrets:
            for name in SECRETS:
                shown.pop(name, None)
        return shown

    @property
    def ends_ms(self) -> int | None:
        """When the last of its tokens ends. A refresh token without a date may live for ever."""
        tokens = self.tokens
        if tokens.refresh and not self.is_online and tokens.refresh_expires_ms is None:
            return None
        known = [ms for ms in (tokens.expires_ms, tokens.refresh_expires_ms) if ms is not None]
        return max(known, default=None) if tokens.expires_ms is not None else None


def _hide(holder: object, *names: str) -> None:
    """Whatever made it: from now on these are secrets."""
    for name in names:
        text = getattr(holder, name)
        if text is not None:
            object.__setattr__(holder, name, Secret(text))


def shop_key(shop: str) -> str:
    return shop.strip().lower()


def from_document(document: Mapping[str, Any]) -> ShopifySession:
    """A document whose members have been checked; raises Invalid when its id names another shop."""
    shop = shop_key(document["shop"])
    named = shop_named_by(document["id"])
    if named is not None and named != shop:
        detail = "the id names another shop"
        raise errors.Invalid(detail, flaws=[errors.Flaw("/shop", detail)])
    return ShopifySession(
        id=document["id"],
        shop=shop,
        is_online=document.get("isOnline", False),
        user_id=user_id(document),
        scope=document.get("scope"),
        tokens=Tokens(
            access=document.get("accessToken"),
            refresh=document.get("refreshToken"),
            expires_ms=document.get("expires"),
            refresh_expires_ms=document.get("refreshTokenExpires"),
        ),
        rest={name: None if name in MOVED else value for name, value in document.items()},
    )


def shop_named_by(session_id: str) -> str | None:
    """The shop of `offline_{shop}` and `{shop}_{user}`; None for ids of any other shape."""
    lowered = session_id.lower()
    if lowered.startswith(OFFLINE_PREFIX):
        return shop_key(lowered.removeprefix(OFFLINE_PREFIX))
    match = _USERS_ID.fullmatch(lowered)
    return (match["shop"] or match["other"]) if match else None


def id_for(shop: str, *, user_id: int | None) -> str:
    return f"{OFFLINE_PREFIX}{shop}" if user_id is None else f"{shop}_{user_id}"


def user_id(document: Mapping[str, Any]) -> int | None:
    """As far as Shopify's shape is kept; what is no user's number there names nobody."""
    user = (document.get("onlineAccessInfo") or {}).get("associated_user")
    given = user.get("id") if isinstance(user, dict) else None
    text = str(given) if isinstance(given, int | str) else ""
    number = int(text) if re.fullmatch("[0-9]{1,19}", text) else 0
    return number if 0 < number <= _INT64_MAX else None


def succeed(
    old: ShopifySession | None, new: ShopifySession, *, keeps_tokens: bool
) -> ShopifySession:
    """What is stored when `new` is put over `old`: everything is replaced.

    `keeps_tokens`: who puts it may not know the tokens, so a pair that is there stays, and with it
    the dates that tell of it.
    """
    if old is None:
        return new
    kept = keeps_tokens and not old.tokens.is_empty
    tokens = old.tokens if kept else new.tokens
    if tokens.same_pair(old.tokens):
        return replace(new, tokens=tokens, previous_refresh=old.previous_refresh, status=old.status)
    is_next = old.tokens.refresh is not None and old.tokens.refresh != tokens.refresh
    previous = old.tokens.refresh if is_next else old.previous_refresh
    return replace(new, tokens=tokens, previous_refresh=previous)


def is_same(one: ShopifySession, other: ShopifySession) -> bool:
    """Would anybody see a difference?"""
    return canonical.canonical(one.document(with_secrets=True)) == canonical.canonical(
        other.document(with_secrets=True)
    )
