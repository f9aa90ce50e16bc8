"""API keys: `msk_<id>_<secret>_<check>`, known by their SHA-256 alone.

The check is a CRC of what stands before it, so that a typing mistake costs no look-up; the id
finds the key; the secret has 256 bits, so that a fast hash is enough.
"""

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 8
SECRET_LENGTH = 43
CHECK_LENGTH = 6
_FORM = re.compile(r"(msk_([0-9A-Za-z]{8})_[0-9A-Za-z]{43})_([0-9A-Za-z]{6})")

ADMIN_SCOPE = "admin"
BOOTSTRAP_ID = "bootstrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    id: str
    name: str
    digest: bytes
    scopes: frozenset[str]
    shop: str | None
    expires_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """Who came in: the key's id, shop and scopes."""

    key_id: str
    shop: str | None
    scopes: frozenset[str]

    @property
    def is_admin(self) -> bool:
        return ADMIN_SCOPE in self.scopes


def mint() -> tuple[str, str]:
    """A fresh (id, key)."""
    identifier = _random(ID_LENGTH)
    stem = f"msk_{identifier}_{_random(SECRET_LENGTH)}"
    return identifier, f"{stem}_{_check(stem)}"


def id_of(key: str) -> str | None:
    """The id inside a well-formed key, or None: not one of ours, or mistyped."""
    match = _FORM.fullmatch(key)
    if match is None or _check(match[1]) != match[3]:
        return None
    return match[2]


def digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class KeyTable:
    """All keys in memory, replaced as a whole. Before the first load nothing is known."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self.loaded = False

    def replace(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {key.id: key for key in keys}
        self.loaded = True

    def add(self, key: ApiKey) -> None:
        self._keys[key.id] = key

    def remove(self, key_id: str) -> None:
        self._keys.pop(key_id, None)

    def get(self, key_id: str) -> ApiKey | None:
        return self._keys.get(key_id)


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _check(stem: str) -> str:
    value = zlib.crc32(stem.encode())
    digits = ""
    for _ in range(CHECK_LENGTH):
        value, rest = divmod(value, len(ALPHABET))
        digits = ALPHABET[rest] + digits
    return digits
