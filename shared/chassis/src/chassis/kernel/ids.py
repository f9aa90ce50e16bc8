"""Identifiers: v7 for what is new, v5 for what must come out the same twice.

Callers may bring v4 or v7. Version 5 is ours alone, so that nobody can take the id of a schedule's
fire, an `on_complete` or a webhook before it exists.
"""

import json
import re
import uuid

import uuid_utils

NAMESPACE = uuid.UUID("6f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d11")
_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def new_id() -> uuid.UUID:
    """A fresh UUIDv7: sorts by creation time."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)


def derived_id(purpose: str, *parts: str) -> uuid.UUID:
    """The same UUIDv5 for the same purpose and parts, on every replica, for ever."""
    return uuid.uuid5(NAMESPACE, json.dumps([purpose, *parts], ensure_ascii=False))


def parse_id(text: str) -> uuid.UUID | None:
    """The UUID in its canonical form, or None: `{…}`, urn: and undashed forms are not ids here."""
    return uuid.UUID(text) if _CANONICAL.fullmatch(text) else None


def is_callers(identifier: uuid.UUID) -> bool:
    """May a caller have made it?"""
    return identifier.version in (4, 7)
