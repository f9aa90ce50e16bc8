"""When two jobs are the same: the key of a unique job."""

import hashlib
from typing import Any

from chassis.kernel import canonical
from contracts import jobs as wire
from queue_service.core.jobs import Unique

KEY_BYTES = 16
LIVE = tuple(state.value for state in wire.LIVE_STATES)
# Part of every key, so naming them adds nothing.
ALWAYS = frozenset({"shop", "kind"})
ARGS = "args"


def unique_of(said: wire.JobCreate, *, shop: str | None) -> Unique | None:
    """`shop` is the job's, which its body need not say."""
    wanted = said.unique
    if wanted is None:
        return None
    by = ["key", wanted.key] if wanted.by is None else ["by", _parts(said, wanted.by)]
    named = canonical.canonical([shop or "", said.kind, *by])
    # A window stands alone; states beside it hold as well.
    states = wanted.states or (LIVE if wanted.window_s is None else ())
    return Unique(
        key=hashlib.sha256(named).digest()[:KEY_BYTES],
        on_conflict=wanted.on_conflict,
        states=states,
        window_s=wanted.window_s,
    )


def _parts(said: wire.JobCreate, by: list[str]) -> list[list[Any]]:
    return [[name, *_value(said, name)] for name in sorted(set(by) - ALWAYS)]


def _value(said: wire.JobCreate, name: str) -> list[Any]:
    """Nothing for an arg that is absent, which is not the same as null."""
    field, _, member = name.partition(".")
    if not member:
        return [said.args if field == ARGS else said.queue]
    return [said.args[member]] if member in said.args else []
