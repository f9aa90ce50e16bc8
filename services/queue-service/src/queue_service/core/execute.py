"""Run one claimed job with its handler: parse, bound the time, name the ending."""

import asyncio
import time
from typing import Any

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from mainstay import handler
from queue_service.core.attempts import Claimed, Ended, Ending, Interrupted, Raised
from queue_service.core.context import JobContext, LeaseLost
from queue_service.core.stepping import resumed


async def execute(
    of: handler.Handler[Any], job: Claimed, ctx: JobContext, *, clock: Clock
) -> Ended:
    """Always an ending; raises LeaseLost, and CancelledError only when cancelled from outside."""
    started = time.monotonic()
    ending = await _attempt(of, job, ctx)
    return Ended(ending, clock.now(), time.monotonic() - started, ctx.is_marked)


async def _attempt(of: handler.Handler[Any], job: Claimed, ctx: JobContext) -> Ending:
    limit: asyncio.Timeout | None = None
    try:
        running = of.run(of.parse(job.args), ctx)
        try:
            waits_for = running.send(None)
        except StopIteration as done:
            outcome: handler.Outcome = done.value
        else:
            limit = asyncio.timeout(ctx.remaining_s())
            async with limit:
                outcome = await resumed(running, waits_for)
        await _flush_progress(ctx, outcome)
        return outcome
    except LeaseLost:
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return Interrupted()
        return Raised("cancelled", "the handler cancelled itself", True)
    except handler.HandlerError as error:
        final = isinstance(error, handler.Ambiguous | handler.Permanent)
        return Raised(error.type, str(error), retryable=not final)
    except errors.Unavailable as error:
        return Raised("unavailable", error.detail, retryable=True)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a handler raises is an ending
        if isinstance(error, TimeoutError) and limit is not None and limit.expired():
            within = f"{job.timeout_s or of.timeout_s:g} s"
            return Raised("timeout", f"not done within {within}", retryable=True)
        return Raised(type(error).__name__, str(error), retryable=True)


async def _flush_progress(ctx: JobContext, outcome: handler.Outcome) -> None:
    """What has been done is done, whether its last progress can be written down or not."""
    try:
        await ctx.flush_progress()
    except (errors.Unavailable, asyncio.CancelledError):
        if not isinstance(outcome, handler.Completed):
            raise
