"""Ways to come by tokens of a store: each grant is a value that knows when it is needed at all, and
what to ask Shopify for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from session_service.core.record import ShopifySession, Status

EXCHANGING = "urn:ietf:params:oauth:grant-type:token-exchange"
BY_SESSION = "urn:ietf:params:oauth:token-type:id_token"
FOR_OFFLINE = "urn:shopify:params:oauth:token-type:offline-access-token"
FOR_ONLINE = "urn:shopify:params:oauth:token-type:online-access-token"

# Shopify takes the refresh token before the current one for so long.
PREVIOUS_LIVES = timedelta(days=30)
# A token that Shopify refuses is renewed once in this time: a caller that is wrong costs no more.
REJECTION_EVERY = timedelta(seconds=30)
# A token with less than this left is none to spare a grant for.
GOOD_MS = 60_000


class Way(StrEnum):
    """As events name it."""

    CODE = "code"
    EXCHANGE = "exchange"
    REFRESH = "refresh"
    MIGRATE = "migrate"
    CLIENT_CREDENTIALS = "client_credentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a row knows of its grants. `granted_at` by Shopify's clock, the rest by ours."""

    granted_at: datetime
    granted_by: str | None = None
    rejected_at: datetime | None = None
    next_attempt_at: datetime | None = None
    failures: int = 0
    refusals: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A session as a grant finds it."""

    session: ShopifySession
    state: State

    def works(self, now_ms: int, *, for_ms: int = 0) -> bool:
        """Is there an access token that lives for longer than `for_ms`?"""
        session = self.session
        return (
            session.status is Status.ACTIVE
            and bool(session.tokens.access)
            and not session.tokens.has_ended(now_ms + for_ms)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is sent but for the app's own name and secret. `refresh`: the refresh token that is used
    up by it. `is_repeatable`: the same question may be put again after a good answer."""

    way: Way
    body: Mapping[str, str] = field(repr=False)
    refresh: str | None = field(default=None, repr=False)
    is_repeatable: bool = True


class Grant(Protocol):
    """`is_automatic`: made by ourselves to renew what is there, so it needs a session that is
    active, keeps to its back-off, and tells the row of its failures."""

    @property
    def way(self) -> Way: ...

    @property
    def is_online(self) -> bool: ...

    @property
    def is_automatic(self) -> bool: ...

    def is_met(self, held: Held | None, now: datetime) -> bool:
        """Somebody else was quicker, or there was no need."""
        ...

    def asks(self, held: Held | None, now: datetime) -> Sequence[Ask]:
        """In the order in which they are tried; the next one when Shopify knows a token no more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """An authorization code, once. `state` is kept in the session, as Shopify's libraries do."""

    code: str = field(repr=False)
    state: str = field(default="", repr=False)
    is_online: bool = False
    way = Way.CODE
    is_automatic = False

    def is_met(self, held: Held | None, now: datetime) -> bool:
        return False

    def asks(self, held: Held | None, now: datetime) -> Sequence[Ask]:
        body = {"code": self.code} | ({} if self.is_online else {"expiring": "1"})
        return [Ask(way=self.way, body=body, is_repeatable=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A session token that has been verified. `is_forced`: also over a token that works."""

    session_token: str = field(repr=False)
    is_online: bool = False
    is_forced: bool = False
    way = Way.EXCHANGE
    is_automatic = False

    def is_met(self, held: Held | None, now: datetime) -> bool:
        return not self.is_forced and held is not None and held.works(_ms(now), for_ms=GOOD_MS)

    def asks(self, held: Held | None, now: datetime) -> Sequence[Ask]:
        body = {
            "grant_type": EXCHANGING,
            "subject_token": self.session_token,
            "subject_token_type": BY_SESSION,
            "requested_token_type": FOR_ONLINE if self.is_online else FOR_OFFLINE,
        }
        return [Ask(way=self.way, body=body | ({} if self.is_online else {"expiring": "1"}))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate:
    """A token without an end for a pair. There is no way back: the old token dies at once."""

    way = Way.MIGRATE
    is_online = False
    is_automatic = False

    def is_met(self, held: Held | None, now: datetime) -> bool:
        return held is not None and not can_migrate(held)

    def asks(self, held: Held | None, now: datetime) -> Sequence[Ask]:
        return [_migration(held)] if held is not None and can_migrate(held) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """For stores of the organisation that owns the app; such tokens are renewed the same way."""

    way = Way.CLIENT_CREDENTIALS
    is_online = False
    is_automatic = False

    def is_met(self, held: Held | None, now: datetime) -> bool:
        return (
            held is not None
            and held.state.granted_by == self.way
            and held.works(_ms(now), for_ms=GOOD_MS)
        )

    def asks(self, held: Held | None, now: datetime) -> Sequence[Ask]:
        return [CLIENT_CREDENTIALS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """Renew a pair that lives for no longer than `min_ttl_ms`; with `over_gen`: exactly that one,
    however long it lives."""

    min_ttl_ms: int = 0
    over_gen: int | None = None
    way = Way.REFRESH
    is_online = False
    is_automatic = True

    def is_met(self, held: Held | None, now: datetime) -> bool:
        if held is None:
            return False
        if self.over_gen is not None:
            return held.session.gen != self.over_gen
        return held.works(_ms(now), for_ms=self.min_ttl_ms)

    def asks(self, held: Held | None, now: datetime) -> Sequence[Ask]:
        return _renewals(held, now) if held is not None else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Shopify answered 401 to the token of this `version`."""

    version: int
    way = Way.REFRESH
    is_online = False
    is_automatic = True

    def is_met(self, held: Held | None, now: datetime) -> bool:
        if held is None:
            return False
        last = held.state.rejected_at
        was_just_done = last is not None and now - last < REJECTION_EVERY
        return held.session.version != self.version or was_just_done

    def asks(self, held: Held | None, now: datetime) -> Sequence[Ask]:
        if held is None:
            return []
        # What Shopify no longer takes may be an old token without an end: it can still become one.
        return _renewals(held, now) or ([_migration(held)] if can_migrate(held) else [])


CLIENT_CREDENTIALS = Ask(
    way=Way.CLIENT_CREDENTIALS, body={"grant_type": "client_credentials"}, is_repeatable=False
)


def can_migrate(held: Held) -> bool:
    tokens = held.session.tokens
    is_endless = tokens.expires_ms is None and not tokens.refresh
    return not held.session.is_online and bool(tokens.access) and is_endless


def can_renew(session: ShopifySession) -> bool:
    """Whether asking may help; a token of client credentials is known to the row alone."""
    return not session.is_online and session.tokens.expires_ms is not None


def _renewals(held: Held, now: datetime) -> list[Ask]:
    session = held.session
    if session.is_online:
        return []
    known = [session.tokens.refresh]
    if now - held.state.granted_at < PREVIOUS_LIVES:
        known.append(session.previous_refresh)
    asks = [_refresh(token) for token in dict.fromkeys(known) if token]
    if held.state.granted_by == Way.CLIENT_CREDENTIALS:
        asks.append(CLIENT_CREDENTIALS)
    return asks


def _refresh(token: str) -> Ask:
    body = {"grant_type": "refresh_token", "refresh_token": token}
    return Ask(way=Way.REFRESH, body=body, refresh=token)


def _migration(held: Held) -> Ask:
    body = {
        "grant_type": EXCHANGING,
        "subject_token": held.session.tokens.access or "",
        "subject_token_type": FOR_OFFLINE,
        "requested_token_type": FOR_OFFLINE,
        "expiring": "1",
    }
    return Ask(way=Way.MIGRATE, body=body)


def _ms(now: datetime) -> int:
    return int(now.timestamp() * 1000)
