"""One attempt at a job: parse its args, run its handler within the time, name the ending."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mainstay import handler
from mainstay.handler import Context, Handler, Outcome


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that ended in an exception. `type` is what `errors[-1].type` says; `retryable` is
    False where no worker tries again."""

    type: str
    message: str
    retryable: bool


class LeaseLost(Exception):
    """The job has been given to somebody else, or ended: whatever happens, nobody will know."""


async def attempt(of: Handler[Any], args: Mapping[str, Any], ctx: Context) -> Outcome | Failed:
    """Always an ending; raises LeaseLost alone."""
    deadline = asyncio.timeout(of.timeout_s)
    try:
        parsed = of.parse(args)
        async with deadline:
            return await of.run(parsed, ctx)
    except LeaseLost:
        raise
    except handler.HandlerError as error:
        final = isinstance(error, handler.Ambiguous | handler.Permanent)
        return Failed(error.type, str(error), retryable=not final)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a handler raises is an ending
        if isinstance(error, TimeoutError) and deadline.expired():
            return Failed("timeout", f"not done within {of.timeout_s:g} s", retryable=True)
        return Failed(type(error).__name__, str(error), retryable=True)
