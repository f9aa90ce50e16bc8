"""The tokens of one shop: who replaces whom, and what an old refresh token still brings."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from testkit.shopify.rules import HOUR_S, Era, Retry, Rules


class Refused(Exception):
    """Such a token brings nothing (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: int
    first_name: str = "Jo"
    last_name: str = "Smith"
    email: str = "jo@example.com"
    email_verified: bool = True
    account_owner: bool = True
    locale: str = "en"
    collaborator: bool = False


@dataclass(slots=True, eq=False)
class Access:
    """An access token. `expires_at` None: never."""

    token: str = field(repr=False)
    scope: str
    expires_at: float | None
    user: User | None = None
    revoked: bool = False
    used: bool = False

    def lives(self, now: float) -> bool:
        return not self.revoked and (self.expires_at is None or now < self.expires_at)


@dataclass(slots=True, eq=False)
class Pair:
    """An access token that expires, and the refresh token that came with it."""

    access: Access
    refresh: str = field(repr=False)
    refresh_expires_at: float
    refreshed_at: float | None = None
    """When its refresh token was used for the first time."""
    successor: "Pair | None" = None
    revoked: bool = False

    @property
    def in_use(self) -> bool:
        return self.access.used or self.refreshed_at is not None

    def end(self) -> None:
        self.revoked = True
        self.access.revoked = True


@dataclass(slots=True, eq=False)
class Wallet:
    rules: Rules
    accesses: dict[str, Access] = field(default_factory=dict, repr=False)
    pairs: dict[str, Pair] = field(default_factory=dict, repr=False)
    """By refresh token."""
    migrated: dict[str, tuple[Pair, float]] = field(default_factory=dict, repr=False)
    """Old token → its pair, and when."""
    lasting: Access | None = None
    """The one that never expires; the same whenever it is asked for."""
    newest: Pair | None = None

    def find(self, token: str, now: float) -> Access | None:
        access = self.accesses.get(token)
        return access if access is not None and access.lives(now) else None

    def new_pair(self, scope: str, now: float) -> Pair:
        """One pair per shop: all before it are over."""
        for pair in self.pairs.values():
            pair.end()
        return self._issue(scope, now)

    def never_expiring(self, scope: str) -> Access:
        if self.lasting is None or self.lasting.revoked or self.lasting.scope != scope:
            self.lasting = self._access(scope, None)
        return self.lasting

    def online(self, scope: str, user: User, now: float) -> Access:
        return self._access(scope, now + self.rules.online_ttl_s, user)

    def client_credentials(self, scope: str, now: float) -> Access:
        return self._access(scope, now + self.rules.client_credentials_ttl_s)

    def refresh(self, token: str, scope: str, now: float) -> Pair:
        """The pair after this one, made now or (for a token that is used again) before."""
        pair = self.pairs.get(token)
        if pair is None or pair.revoked or pair.refresh_expires_at <= now:
            raise Refused
        if pair.successor is not None:
            return self._again(pair, pair.successor, scope, now)
        pair.refreshed_at = now
        pair.access.revoked |= self.rules.refresh_ends_access
        pair.successor = self._issue(scope, now)
        return pair.successor

    def migrate(self, token: str, scope: str, now: float) -> Pair:
        """A pair for a token that never expires, which is dead at once."""
        if token in self.migrated:
            pair, at = self.migrated[token]
            replaced = pair.revoked or pair.refreshed_at is not None
            if replaced or now - at > self.rules.retry_of_migrated_s:
                raise Refused
            return pair
        access = self.find(token, now)
        if access is None or access.expires_at is not None:
            raise Refused
        access.revoked = True
        pair = self.new_pair(scope, now)
        self.migrated[token] = (pair, now)
        return pair

    def end_all(self) -> None:
        """The app is uninstalled."""
        for access in self.accesses.values():
            access.revoked = True
        for pair in self.pairs.values():
            pair.end()

    def _again(self, pair: Pair, successor: Pair, scope: str, now: float) -> Pair:
        assert pair.refreshed_at is not None
        since_s = now - pair.refreshed_at
        if self.rules.era is Era.SIXTY_MINUTES:
            permitted = since_s <= HOUR_S
            successor = _last(successor)
        else:
            permitted = since_s <= self.rules.retry_of_used_s and not successor.in_use
        if not permitted or successor.revoked:
            raise Refused
        if self.rules.retry is Retry.SAME_PAIR:
            return successor
        successor.end()
        pair.successor = self._issue(scope, now)
        return pair.successor

    def _issue(self, scope: str, now: float) -> Pair:
        access = self._access(scope, now + self.rules.access_ttl_s)
        pair = Pair(access, f"shprt_{secrets.token_hex(16)}", now + self.rules.refresh_ttl_s)
        self.pairs[pair.refresh] = self.newest = pair
        return pair

    def _access(self, scope: str, expires_at: float | None, user: User | None = None) -> Access:
        access = Access(f"shpat_{secrets.token_hex(16)}", scope, expires_at, user)
        self.accesses[access.token] = access
        return access


def _last(pair: Pair) -> Pair:
    while pair.successor is not None:
        pair = pair.successor
    return pair


def scope_line(scopes: Iterable[str]) -> str:
    """As Shopify writes it: by comma, without the reading that writing implies."""
    given = {each.strip() for each in scopes if each.strip()}
    implied = {each.replace("write_", "read_", 1) for each in given if "write_" in each}
    return ",".join(sorted(given - implied))
