"""How much of a thing may be kept."""

import json
from typing import Any

MAX_PROGRESS_BYTES = 64 * 1024


def size_of(value: Any, limit: int) -> int:
    """Bytes of it as JSON. ValueError or TypeError when it is none, or longer."""
    size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    if size > limit:
        raise ValueError(f"{size} bytes of JSON, {limit} at most")
    return size
