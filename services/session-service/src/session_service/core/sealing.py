"""Sessions outside our own memory: sealed under the key ring, each field for its own place."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from chassis.kernel import errors
from session_service.core.record import ShopifySession, Status, Tokens

ROW = "shopify_session"
COPY = "shopify_session_copy"


class Ring(Protocol):
    """`identity` is authenticated: a value moved elsewhere does not open there."""

    current: str

    def seal(self, plain: str, *identity: str) -> str: ...

    def open(self, sealed: str, *identity: str) -> str: ...

    def fingerprint(self, plain: str, *identity: str) -> str: ...

    def fingerprints(self, plain: str, *identity: str) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A session as its row holds it."""

    id: str
    shop: str
    is_online: bool
    user_id: int | None
    scope: str | None
    body: str = field(repr=False)
    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    previous_refresh_token: str | None = field(repr=False)
    expires_ms: int | None
    refresh_expires_ms: int | None
    status: str
    gen: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is sealed of a row, at a version of it."""

    id: str
    version: int
    body: str = field(repr=False)
    access_token: str | None = field(repr=False)
    refresh_token: str | None = field(repr=False)
    previous_refresh_token: str | None = field(repr=False)


class Body(Mapping[str, Any]):
    """The body of a session, opened when somebody wants it: most readers want the token alone."""

    __slots__ = ("_held", "_open")

    def __init__(self, open_: Callable[[], dict[str, Any]]) -> None:
        self._open = open_
        self._held: dict[str, Any] | None = None

    def _opened(self) -> dict[str, Any]:
        if self._held is None:
            self._held = self._open()
        return self._held

    def __getitem__(self, name: str) -> Any:
        return self._opened()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._opened())

    def __len__(self) -> int:
        return len(self._opened())


class Vault:
    """Raises decrypt_failed for what the ring does not open; that says nothing of other rows."""

    def __init__(self, ring: Ring, *, on_unreadable: Callable[[], None] = lambda: None) -> None:
        """`on_unreadable`: told of every row that does not open."""
        self._ring = ring
        self._on_unreadable = on_unreadable

    @property
    def key_id(self) -> str:
        return self._ring.current

    def seal(self, session: ShopifySession) -> Sealed:
        tokens = session.tokens
        return Sealed(
            id=session.id,
            shop=session.shop,
            is_online=session.is_online,
            user_id=session.user_id,
            scope=session.scope,
            body=self._ring.seal(_dumps(dict(session.rest)), ROW, session.id, "body"),
            access_token=self._seal(tokens.access, session.id, "access_token"),
            refresh_token=self._seal(tokens.refresh, session.id, "refresh_token"),
            previous_refresh_token=self._seal(
                session.previous_refresh, session.id, "previous_refresh_token"
            ),
            expires_ms=tokens.expires_ms,
            refresh_expires_ms=tokens.refresh_expires_ms,
            status=session.status,
            gen=session.gen,
            version=session.version,
        )

    def open(self, sealed: Sealed) -> ShopifySession:
        try:
            return self._opened(sealed)
        except errors.Broken:
            self._on_unreadable()
            raise

    def _opened(self, sealed: Sealed) -> ShopifySession:
        return ShopifySession(
            id=sealed.id,
            shop=sealed.shop,
            is_online=sealed.is_online,
            user_id=sealed.user_id,
            scope=sealed.scope,
            tokens=Tokens(
                access=self._open(sealed.access_token, sealed.id, "access_token"),
                refresh=self._open(sealed.refresh_token, sealed.id, "refresh_token"),
                expires_ms=sealed.expires_ms,
                refresh_expires_ms=sealed.refresh_expires_ms,
            ),
            rest=Body(partial(self._body, sealed.id, sealed.body)),
            previous_refresh=self._open(
                sealed.previous_refresh_token, sealed.id, "previous_refresh_token"
            ),
            status=Status(sealed.status),
            gen=sealed.gen,
            version=sealed.version,
        )

    def _body(self, session_id: str, sealed: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._ring.open(sealed, ROW, session_id, "body"))
        except errors.Broken:
            self._on_unreadable()
            raise
        return found

    def reseal(self, parts: Parts) -> Parts:
        """The same under the key that seals now."""

        def anew(text: str | None, name: str) -> str | None:
            return self._seal(self._open(text, parts.id, name), parts.id, name)

        body = self._ring.open(parts.body, ROW, parts.id, "body")
        return replace(
            parts,
            body=self._ring.seal(body, ROW, parts.id, "body"),
            access_token=anew(parts.access_token, "access_token"),
            refresh_token=anew(parts.refresh_token, "refresh_token"),
            previous_refresh_token=anew(parts.previous_refresh_token, "previous_refresh_token"),
        )

    def copy(self, sealed: Sealed, *, at_ms: int) -> str:
        """The row as one sealed text, so that who keeps it can neither read nor alter it."""
        return self._ring.seal(_dumps({"at_ms": at_ms, "row": asdict(sealed)}), COPY, sealed.id)

    def open_copy(self, session_id: str, text: str) -> tuple[ShopifySession, int]:
        """(session, when it was copied in epoch milliseconds)."""
        held = json.loads(self._ring.open(text, COPY, session_id))
        return self.open(Sealed(**held["row"])), held["at_ms"]

    def fingerprint(self, session: ShopifySession) -> str:
        """Of its pair: tells whether it comes again, and nothing else."""
        return self._ring.fingerprint(_pair(session), ROW, session.id)

    def is_among(self, fingerprints: Sequence[str], session: ShopifySession) -> bool:
        """Is its pair one of those? They may be of any key of the ring."""
        known = self._ring.fingerprints(_pair(session), ROW, session.id)
        return not known.isdisjoint(fingerprints)

    def _seal(self, secret: str | None, session_id: str, name: str) -> str | None:
        return None if secret is None else self._ring.seal(secret, ROW, session_id, name)

    def _open(self, sealed: str | None, session_id: str, name: str) -> str | None:
        return None if sealed is None else self._ring.open(sealed, ROW, session_id, name)


def _pair(session: ShopifySession) -> str:
    return json.dumps([session.tokens.access, session.tokens.refresh])


def _dumps(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
