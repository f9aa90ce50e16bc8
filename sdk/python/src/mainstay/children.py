"""Jobs that a job makes. Each has a name, and the name makes its id: a repeat makes none twice."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

MAX_TOGETHER = 1000
MAX_NAME = 200
MAX_ARGS_BYTES = 256 * 1024
MAX_DEPTH = 64
INT_MIN, INT_MAX = -(2**63), 2**64 - 1
_RANDOM_BITS = 74
# Cheap signs of what no store keeps faithfully; most args show none and are not walked through.
_SUSPICIOUS = re.compile(r"\\u0000|\d{19}|(?:[\[{][^\[{]*){65}")


class ChildOptions(TypedDict, total=False):
    """What a new job may say beside its name, kind and args; absent means the queue's default."""

    queue: str
    shop: str | None
    run_at: datetime | None
    delay_s: float | None
    priority: int
    max_attempts: int | None
    timeout_s: float | None
    tags: Sequence[str]
    retry: Mapping[str, float] | None
    notify: bool
    unique: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be made by the one in hand. `name` tells it from the others that this one makes, and
    must come out the same in every attempt: "receipt", or the number of a row. `shop` None is the
    shop of the job in hand."""

    name: str
    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "default"
    shop: str | None = None
    run_at: datetime | None = None
    delay_s: float | None = None
    priority: int = 5
    max_attempts: int | None = None
    timeout_s: float | None = None
    tags: Sequence[str] = ()
    retry: Mapping[str, float] | None = None
    notify: bool = False
    unique: Mapping[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """The body of `POST /v1/jobs`, but for the id."""
        said: dict[str, Any] = {"kind": self.kind, "queue": self.queue, "args": dict(self.args)}
        for name in ("shop", "run_at", "delay_s", "max_attempts", "timeout_s", "unique"):
            if (value := getattr(self, name)) is not None:
                said[name] = value
        if self.retry is not None:
            said["retry"] = dict(self.retry)
        return {
            **said,
            "priority": self.priority,
            "tags": list(self.tags),
            "notify": self.notify,
        }


def child_id(parent: UUID, created_at: datetime | None, name: str) -> UUID:
    """The same UUIDv7 for the same parent and name, in every attempt and whoever runs it.

    Its time is the parent's, before which it cannot have ended: so history is searched no further
    back than that for a job that was made before.
    """
    milliseconds = int(created_at.timestamp() * 1000) if created_at is not None else 0
    said = json.dumps(["child", str(parent), name], ensure_ascii=False).encode()
    bits = int.from_bytes(hashlib.sha256(said).digest()) & (1 << _RANDOM_BITS) - 1
    value = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76
    return UUID(int=value | bits >> 62 << 64 | 2 << 62 | bits & (1 << 62) - 1)


def require_names(jobs: Sequence[NewJob], taken: Iterable[str] = ()) -> None:
    """Raises ValueError: a name twice would be one job where two are meant."""
    if len(jobs) > MAX_TOGETHER:
        raise ValueError(f"{len(jobs)} jobs at once, {MAX_TOGETHER} at most")
    seen = set(taken)
    for job in jobs:
        if not 0 < len(job.name) <= MAX_NAME:
            raise ValueError(f"the name of a new job has 1 to {MAX_NAME} characters")
        if job.name in seen:
            raise ValueError(f"{job.name!r} names two new jobs: give each its own name")
        seen.add(job.name)


def args_flaw(args: Mapping[str, Any]) -> str | None:
    """Why these args cannot be stored, if they cannot."""
    try:
        text = json.dumps(args, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        return f"args: no JSON ({type(error).__name__})"
    if size > MAX_ARGS_BYTES:
        return f"args: over {MAX_ARGS_BYTES} bytes"
    if _SUSPICIOUS.search(text) and not _is_faithful(args, 0):
        return "args: a value that cannot be stored as it is"
    return None


def _is_faithful(value: Any, depth: int) -> bool:
    match value:
        case str():
            return "\x00" not in value
        case bool() | None:
            return True
        case float():
            return math.isfinite(value)
        case int():
            return INT_MIN <= value <= INT_MAX
        case Mapping():
            inside = (_is_faithful(each, depth + 1) for pair in value.items() for each in pair)
            return depth < MAX_DEPTH and all(inside)
        case _:
            return depth < MAX_DEPTH and all(_is_faithful(each, depth + 1) for each in value)
