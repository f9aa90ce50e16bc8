"""One byte string per JSON value, to tell a repeat from another request under the same key."""

import hashlib
import json
import re

import orjson

_SLOW = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
# Where the two differ: very large and very small numbers (and texts that look as if they held one).
_MAY_DIFFER = re.compile(rb"\de|0\.0000")


def canonical(value: object) -> bytes:
    """Sorted members, no spaces, UTF-8; numbers, which are finite, as Python prints them."""
    try:
        said = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return _SLOW.encode(value).encode()
    return _SLOW.encode(value).encode() if _MAY_DIFFER.search(said) else said


def fingerprint(value: object) -> str:
    """SHA-256 of the canonical form, hex."""
    return hashlib.sha256(canonical(value)).hexdigest()
