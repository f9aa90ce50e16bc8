"""One byte string per JSON value, to tell a repeat from another request under the same key."""

import hashlib
import json


def canonical(value: object) -> bytes:
    """Sorted members, no spaces, UTF-8; numbers as Python prints them."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def fingerprint(value: object) -> str:
    """SHA-256 of the canonical form, hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
