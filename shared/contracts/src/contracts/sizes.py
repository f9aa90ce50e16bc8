"""How large the args of a job may be, by one measure at whoever judges them."""

import json
from collections.abc import Mapping
from typing import Any

from contracts.jobs import MAX_ARGS_BYTES

# Python prints no number longer than four times what a body said of it (1e15).
GROWS_AT_MOST = 4


def are_too_large(args: Mapping[str, Any], *, said_bytes: int) -> bool:
    """`said_bytes` is the size of the body that held them: most need no second look."""
    return said_bytes > MAX_ARGS_BYTES // GROWS_AT_MOST and size_of(args) > MAX_ARGS_BYTES


def size_of(args: Mapping[str, Any]) -> int:
    """In bytes of UTF-8, without spaces."""
    return len(json.dumps(args, ensure_ascii=False, separators=(",", ":")).encode())
