"""All that our Shopify knows: the app, its shops, its clock, its rules, and who has called."""

import secrets
from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import jwt

from testkit.shopify.buckets import Bucket
from testkit.shopify.catalog import Catalog
from testkit.shopify.clock import Clock
from testkit.shopify.faults import Faults
from testkit.shopify.rules import Rules
from testkit.shopify.wallet import Pair, User, Wallet, scope_line

CALLS_KEPT = 100_000
SESSION_TOKEN_S = 60
POINTS, POINTS_PER_S = 2000.0, 100.0
CALLS, CALLS_PER_S = 40.0, 2.0


class Standing(IntEnum):
    """How a shop answers everything; the status."""

    OPEN = 200
    FROZEN = 402
    FORBIDDEN = 403
    GONE = 404
    LOCKED = 423


@dataclass(slots=True, eq=False)
class Code:
    """An authorization code: once, for this shop, within its time."""

    expires_at: float
    user: User | None
    used: bool = False


@dataclass(slots=True, eq=False)
class Shop:
    name: str
    wallet: Wallet
    points: Bucket
    """Of GraphQL."""
    calls: Bucket
    """Of REST."""
    scopes: str = "write_products"
    installed: bool = True
    standing: Standing = Standing.OPEN
    own_organisation: bool = False
    """Its app may ask with client credentials."""
    users: dict[int, User] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict, repr=False)
    catalog: Catalog = field(default_factory=Catalog, repr=False)
    idempotent: dict[str, tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=dict)
    """Key → what was asked, what was done."""
    bulk_operations: dict[int, Any] = field(default_factory=dict, repr=False)
    bulk_error: str | None = None
    """Bulk operations that begin now will fail with this code."""

    def user(self, user_id: int) -> User:
        return self.users.setdefault(user_id, User(id=user_id))


@dataclass(slots=True, eq=False)
class Call:
    """One request. `detail`: the grant, or the operation. `status` 0: the connection was cut."""

    where: str
    shop: str
    detail: str
    body: bytes = field(repr=False)
    status: int | None = None


class World:
    """`shop(name)` makes it on first sight, with the app installed."""

    def __init__(self, *, api_key: str, api_secret: str) -> None:
        self.api_key = api_key
        self.secrets = [api_secret]
        """The newest first; all are taken."""
        self.url = ""
        """Where it listens."""
        self.redirects: list[str] = []
        """Where `authorize` may send browsers; empty: anywhere."""
        self.clock = Clock()
        self.rules = Rules()
        self.faults = Faults()
        self.shops: dict[str, Shop] = {}
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)

    @property
    def api_secret(self) -> str:
        return self.secrets[0]

    def rotate_secret(self) -> str:
        """A new client secret; the old one is taken until `drop_old_secrets`."""
        self.secrets.insert(0, new_secret())
        return self.api_secret

    def drop_old_secrets(self) -> None:
        del self.secrets[1:]

    def shop(self, name: str) -> Shop:
        shop = self.shops.get(name)
        if shop is None:
            shop = self.shops[name] = Shop(
                name,
                Wallet(self.rules),
                points=Bucket(self.clock, maximum=POINTS, restore_rate=POINTS_PER_S),
                calls=Bucket(self.clock, maximum=CALLS, restore_rate=CALLS_PER_S),
            )
        return shop

    def install(self, name: str, *, scopes: str | None = None) -> Shop:
        """The app is (again) in the shop; it has no token yet."""
        shop = self.shop(name)
        shop.installed = True
        shop.scopes = shop.scopes if scopes is None else scopes
        return shop

    def uninstall(self, name: str) -> None:
        """Every token is dead at once."""
        shop = self.shop(name)
        shop.installed = False
        shop.wallet.end_all()

    def code(self, name: str, *, user_id: int | None = None) -> str:
        """An authorization code, as after the merchant's consent; for a user: online."""
        shop = self.shop(name)
        user = None if user_id is None else shop.user(user_id)
        code = secrets.token_hex(16)
        shop.codes[code] = Code(self.clock.now() + self.rules.code_ttl_s, user)
        return code

    def pair(self, name: str) -> Pair:
        """Make the shop's offline pair, as an exchange would."""
        shop = self.shop(name)
        return shop.wallet.new_pair(scope_line(shop.scopes.split(",")), self.clock.now())

    def lasting_token(self, name: str) -> str:
        """An offline token of the old sort, which never expires."""
        shop = self.shop(name)
        return shop.wallet.never_expiring(scope_line(shop.scopes.split(","))).token

    def session_token(
        self, name: str, *, user_id: int = 1, secret: str | None = None, **claims: Any
    ) -> str:
        """What App Bridge would hand the app's page; `claims` replace, and None takes away."""
        now = int(self.clock.now())
        said = {
            "iss": f"https://{name}/admin",
            "dest": f"https://{name}",
            "aud": self.api_key,
            "sub": str(user_id),
            "exp": now + SESSION_TOKEN_S,
            "nbf": now,
            "iat": now,
            "jti": secrets.token_hex(8),
            "sid": secrets.token_hex(16),
        } | claims
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, secret or self.api_secret, algorithm="HS256")

    def called(self, where: str, shop: str | None = None, detail: str | None = None) -> list[Call]:
        """The requests so far, the oldest first."""
        return [
            call
            for call in self.calls
            if call.where == where
            and (shop is None or call.shop == shop)
            and (detail is None or call.detail == detail)
        ]


def new_secret() -> str:
    return f"shpss_{secrets.token_hex(16)}"
