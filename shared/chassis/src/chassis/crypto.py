"""Sealing at rest (AES-256-GCM under a key ring) and tokens between services (EdDSA, 60 s)."""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring
from pathlib import Path

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.kernel import errors

PREFIX = "enc:v1"
NONCE_BYTES = 12
TOKEN_LIFE_S = 60
TOKEN_RENEW_S = 30
LEEWAY_S = 10
CACHED_TOKENS = 10_000


class SealBroken(errors.Broken):
    """What was sealed cannot be opened: unknown key, or not sealed for this place."""

    code = "decrypt_failed"

    def __init__(self) -> None:
        super().__init__("what was sealed cannot be opened with the keys we have")


class Keyring:
    """`k2:base64,k1:base64`: the first key seals, all of them open.

    The associated data (row's identity and field) is authenticated, so that a sealed value moved
    to another row does not open there.
    """

    def __init__(self, spec: str) -> None:
        self._ciphers: dict[str, AESGCM] = {}
        self._marks: dict[str, bytes] = {}
        for item in filter(None, (part.strip() for part in spec.split(","))):
            name, _, encoded = item.partition(":")
            key = base64.b64decode(encoded, validate=True)
            if len(key) != 32:
                raise ValueError("every key must be 32 bytes of base64")
            if not name or name in self._ciphers:
                raise ValueError("every key needs a name of its own")
            self._ciphers[name] = AESGCM(key)
            self._marks[name] = hmac.digest(key, b"mainstay fingerprint v1", hashlib.sha256)
        if not self._ciphers:
            raise ValueError("at least one key is needed")
        self.current = next(iter(self._ciphers))

    def seal(self, plain: str, *identity: str) -> str:
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._ciphers[self.current].encrypt(nonce, plain.encode(), _associated(identity))
        text = base64.urlsafe_b64encode(nonce + sealed).decode()
        return f"{PREFIX}:{self.current}:{text}"

    def open(self, sealed: str, *identity: str) -> str:
        """The plain text; raises SealBroken."""
        try:
            prefix, version, name, text = sealed.split(":", 3)
            raw = binascii.a2b_base64(text.replace("-", "+").replace("_", "/"))
            cipher = self._ciphers[name]
            plain = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _associated(identity))
        except (ValueError, KeyError, InvalidTag):
            raise SealBroken from None
        if f"{prefix}:{version}" != PREFIX:
            raise SealBroken
        return plain.decode()

    def fingerprint(self, plain: str, *identity: str) -> str:
        """Equal for equal text in the same place, and no way back to it without the key."""
        return self._mark(self.current, plain, identity)

    def fingerprints(self, plain: str, *identity: str) -> frozenset[str]:
        """Under each key: one of them is what `fingerprint` said when that key was the first."""
        return frozenset(self._mark(name, plain, identity) for name in self._marks)

    def _mark(self, name: str, plain: str, identity: tuple[str, ...]) -> str:
        said = _associated((*identity, plain))
        return f"{name}:{hmac.digest(self._marks[name], said, hashlib.sha256).hex()[:32]}"


def _associated(identity: tuple[str, ...]) -> bytes:
    """A JSON array, as `json` writes one."""
    return f"[{', '.join(map(encode_basestring, identity))}]".encode()


def new_key() -> str:
    """32 random bytes, base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking, as the service token says it.

    `key_id`, `shop` and `scopes` are those of the API key behind the request when a gateway
    forwards one; a service speaking for itself has the scope `service` alone.
    """

    service: str
    key_id: str | None = None
    shop: str | None = None
    scopes: frozenset[str] = frozenset()

    def has(self, scope: str) -> bool:
        return scope in self.scopes or "admin" in self.scopes


class Minter:
    """Signs our own calls. Equal claims share a token for half its life."""

    def __init__(self, *, service: str, private_key_pem: str) -> None:
        self._service = service
        key = serialization.load_pem_private_key(private_key_pem.encode(), None)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("the service key must be an Ed25519 private key")
        self._key = key
        self._cache: dict[tuple[object, ...], tuple[float, str]] = {}

    def mint(
        self,
        audience: str,
        *,
        key_id: str | None = None,
        shop: str | None = None,
        scopes: frozenset[str] = frozenset({"service"}),
    ) -> str:
        claims = (audience, key_id, shop, scopes)
        now = time.time()
        kept = self._cache.get(claims)
        if kept is not None and kept[0] > now:
            return kept[1]
        if len(self._cache) >= CACHED_TOKENS:
            self._cache.clear()
        token = jwt.encode(
            {
                "iss": self._service,
                "aud": audience,
                "sub": key_id or self._service,
                "iat": int(now),
                "exp": int(now) + TOKEN_LIFE_S,
                "scope": " ".join(sorted(scopes)),
                **({"shop": shop} if shop else {}),
                **({"key": key_id} if key_id else {}),
            },
            self._key,
            algorithm="EdDSA",
        )
        self._cache[claims] = (now + TOKEN_RENEW_S, token)
        return token


class Verifier:
    """Checks tokens made for us. A token seen before is not verified twice while it lives."""

    def __init__(self, *, service: str, public_keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._service = service
        self._keys = dict(public_keys)
        self._cache: dict[str, tuple[float, Caller]] = {}

    @classmethod
    def from_directory(cls, *, service: str, directory: Path) -> "Verifier":
        """Reads `<service>.pub`, one PEM each."""
        return cls(service=service, public_keys=read_public_keys(directory))

    def verify(self, token: str) -> Caller:
        now = time.time()
        kept = self._cache.get(token)
        if kept is not None and kept[0] > now:
            return kept[1]
        expires, caller = self._decode(token)
        if len(self._cache) >= CACHED_TOKENS:
            self._cache.clear()
        self._cache[token] = (expires, caller)
        return caller

    def _decode(self, token: str) -> tuple[float, Caller]:
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
            claims = jwt.decode(
                token,
                self._keys[str(issuer)],
                algorithms=["EdDSA"],
                audience=self._service,
                leeway=LEEWAY_S,
                options={"require": ["iss", "aud", "exp", "sub"]},
            )
        except (jwt.PyJWTError, KeyError, ValueError):
            raise errors.Unauthenticated("the service token is not valid") from None
        caller = Caller(
            service=claims["iss"],
            key_id=claims.get("key"),
            shop=claims.get("shop"),
            scopes=frozenset(str(claims.get("scope", "")).split()),
        )
        return float(claims["exp"]) + LEEWAY_S, caller


def read_public_keys(directory: Path) -> dict[str, Ed25519PublicKey]:
    keys: dict[str, Ed25519PublicKey] = {}
    for path in sorted(directory.glob("*.pub")):
        key = serialization.load_pem_public_key(path.read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise TypeError(f"{path.name} is not an Ed25519 public key")
        keys[path.stem] = key
    return keys


def new_service_key() -> tuple[str, str]:
    """A fresh Ed25519 pair as PEM: (private, public)."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()
