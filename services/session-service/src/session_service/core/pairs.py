"""What a session becomes by a grant. What an answer lacks is never erased."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from session_service.core import record
from session_service.core.grants import Ask, Way
from session_service.core.record import ShopifySession, Status, Tokens

# What Shopify's own tokens live for, where its answer does not say.
ACCESS_LIVES_S = 3600
_MOST_S = 10 * 366 * 86_400
_USERS = ("expires_in", "associated_user_scope", "session", "account_number", "associated_user")


def lacks(ask: Ask, old: ShopifySession | None, document: Mapping[str, Any]) -> bool:
    """Is something missing that was there before, or that comes with what did arrive?"""
    has_refresh, has_end = bool(_text(document, "refresh_token")), _seconds(document, "expires_in")
    if ask.way is Way.CLIENT_CREDENTIALS:
        return has_end is None
    had = old.tokens if old is not None else Tokens()
    return (
        (has_refresh and has_end is None)
        or (had.refresh is not None and not has_refresh)
        or (had.expires_ms is not None and has_end is None)
        or (
            had.refresh_expires_ms is not None
            and _seconds(document, "refresh_token_expires_in") is None
        )
        or (old is not None and old.scope is not None and document.get("scope") is None)
    )


def user_of(document: Mapping[str, Any]) -> int | None:
    """The member of staff whom an online token is for."""
    return record.user_id(
        {"onlineAccessInfo": {"associated_user": document.get("associated_user")}}
    )


def granted(
    ask: Ask,
    old: ShopifySession | None,
    document: Mapping[str, Any],
    *,
    session_id: str,
    shop: str,
    state: str,
    sent_ms: int,
) -> ShopifySession:
    """`sent_ms`: when the question left, by our clock; lives are counted from there."""
    user_id = user_of(document)
    before = old or _empty(session_id, shop, state, user_id)
    tokens = _tokens(ask, before, document, sent_ms)
    worked = ask.refresh or before.tokens.refresh
    is_next = worked is not None and worked != tokens.refresh
    return replace(
        before,
        tokens=tokens,
        previous_refresh=worked if is_next else before.previous_refresh,
        scope=_text(document, "scope") or before.scope,
        user_id=user_id if before.is_online else before.user_id,
        rest=before.rest if user_id is None else _with_user(before.rest, document),
        status=Status.ACTIVE,
    )


def _tokens(ask: Ask, before: ShopifySession, document: Mapping[str, Any], sent_ms: int) -> Tokens:
    lives_s = _seconds(document, "expires_in")
    refresh_lives_s = _seconds(document, "refresh_token_expires_in")
    refresh = _text(document, "refresh_token")
    if refresh is None and not before.is_online:
        refresh = ask.refresh or before.tokens.refresh
    if lives_s is None and refresh is not None:
        lives_s = ACCESS_LIVES_S
    refresh_expires_ms = before.tokens.refresh_expires_ms if refresh is not None else None
    if refresh is not None and refresh_lives_s is not None:
        refresh_expires_ms = sent_ms + refresh_lives_s * 1000
    return Tokens(
        access=document["access_token"],
        refresh=refresh,
        expires_ms=None if lives_s is None else sent_ms + lives_s * 1000,
        refresh_expires_ms=refresh_expires_ms,
    )


def _empty(session_id: str, shop: str, state: str, user_id: int | None) -> ShopifySession:
    is_online = user_id is not None
    return ShopifySession(
        id=session_id,
        shop=shop,
        is_online=is_online,
        user_id=user_id,
        scope=None,
        tokens=Tokens(),
        rest={"id": session_id, "shop": shop, "state": state, "isOnline": is_online},
    )


def _with_user(rest: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    info = {name: document[name] for name in _USERS if name in document}
    return {**rest, "onlineAccessInfo": info}


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and value else None


def _seconds(document: Mapping[str, Any], name: str) -> int | None:
    try:
        value = float(document[name])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return int(value) if math.isfinite(value) and 0 < value <= _MOST_S else None
