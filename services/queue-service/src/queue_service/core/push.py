"""Running jobs by a POST to somebody's URL, signed so that the receiver can know us.

An answer decides as a Python handler's return would; one that says "gone" disables the handler, and
its jobs wait until it is registered anew.
"""

import asyncio
import base64
import email.utils
import hashlib
import hmac
import random
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from chassis.kernel.clock import Clock
from mainstay import handler
from queue_service.core.handlers import PushHandler

# A job waits so long for a place among those in flight, then makes room for other kinds.
PLACE_WAIT_S = 5.0
NO_PLACE_S = 2.0
# What the deliverer adds to the handler's own time before the worker's limit strikes.
HEADROOM_S = 5.0
# Jobs of a handler that is disabled look again so often.
DISABLED_S = 60.0
MAX_SNOOZE_S = 86400.0
STOPPED_S = 1.0


class PushFailed(handler.HandlerError):
    """The delivery was not answered well: a failed attempt."""

    type = "push_failed"


class Gone(Exception):
    """410: whoever was there does not want to be called any more."""


@dataclass(frozen=True, slots=True)
class Answered:
    """`result` is the body as JSON, None when it is none."""

    status: int
    retry_after: str | None
    result: Any


class Deliver(Protocol):
    def __call__(
        self, to: PushHandler, secret: bytes, args: Mapping[str, Any], ctx: handler.Context
    ) -> Coroutine[Any, Any, Answered]:
        """One POST within the handler's time. Raises PushFailed when there is no answer."""
        ...


class Disable(Protocol):
    async def __call__(self, handler: PushHandler) -> None:
        """Unless it has been changed since."""
        ...


def signature(secret: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` of Standard Webhooks."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()


def outcome(answered: Answered, now: datetime) -> handler.Outcome:
    """What the answer means. Raises PushFailed or Gone."""
    if 200 <= answered.status < 300:
        return handler.Completed(answered.result)
    if answered.status == 410:
        raise Gone
    delay_s = retry_after_s(answered.retry_after, now)
    if answered.status in (429, 503) and delay_s is not None:
        return handler.Snooze(delay_s)
    hint = ": redirects are not followed" if 300 <= answered.status < 400 else ""
    raise PushFailed(f"the handler answered {answered.status}{hint}")


def retry_after_s(said: str | None, now: datetime) -> float | None:
    """Seconds, 1 to a day; None when nothing was said that can be read."""
    if said is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", said):
        wanted_s = float(said)
    else:
        try:
            at = email.utils.parsedate_to_datetime(said)
        except ValueError:
            return None
        wanted_s = ((at if at.tzinfo else at.replace(tzinfo=UTC)) - now).total_seconds()
    return min(max(wanted_s, 1.0), MAX_SNOOZE_S)


class Push:
    """One kind's deliveries from this process: the `call` of its Handler.

    Without a `secret` (disabled, or sealed by a key that is gone) its jobs wait.
    """

    def __init__(
        self,
        to: PushHandler,
        secret: bytes | None,
        *,
        deliver: Deliver,
        disable: Disable,
        clock: Clock,
    ) -> None:
        self._to = to
        self._secret = secret if to.disabled_at is None else None
        self._deliver = deliver
        self._disable = disable
        self._clock = clock
        self._places = asyncio.Semaphore(to.max_in_flight)

    async def __call__(self, args: Mapping[str, Any], ctx: handler.Context) -> handler.Outcome:
        if self._secret is None:
            return _later(DISABLED_S)
        if not await self._got_place(ctx):
            return _later(NO_PLACE_S)
        try:
            answered = await _unless_cancelled(
                self._deliver(self._to, self._secret, args, ctx), ctx.cancelled
            )
            if answered is None:
                # Settling ends it if it was cancelled; a lease that was lost settles nothing.
                return _later(STOPPED_S)
            return outcome(answered, self._clock.now())
        except Gone:
            self._secret = None
            await self._disable(self._to)
            return _later(DISABLED_S)
        finally:
            self._places.release()

    async def _got_place(self, ctx: handler.Context) -> bool:
        try:
            async with asyncio.timeout(min(PLACE_WAIT_S, ctx.remaining_s() / 2)):
                return await self._places.acquire()
        except TimeoutError:
            return False


async def _unless_cancelled(
    delivery: Coroutine[Any, Any, Answered], cancelled: asyncio.Event
) -> Answered | None:
    """Its answer; None if the job was cancelled, or lost, before there was one."""
    answer, stop = asyncio.create_task(delivery), asyncio.create_task(cancelled.wait())
    try:
        await asyncio.wait({answer, stop}, return_when=asyncio.FIRST_COMPLETED)
        return answer.result() if answer.done() else None
    finally:
        answer.cancel()
        stop.cancel()


def handler_of(to: PushHandler, push: Push) -> handler.Handler[Any]:
    return handler.Handler(
        kind=to.kind,
        call=push,
        args=None,
        queue="default",
        timeout_s=PLACE_WAIT_S + to.timeout_s + HEADROOM_S,
        delivery=handler.Delivery.AT_LEAST_ONCE,
        is_async=True,
    )


def _later(delay_s: float) -> handler.Snooze:
    """Spread, so that those that wait together do not come back together."""
    return handler.Snooze(delay_s * random.uniform(1.0, 1.5))


class Registry(Mapping[str, handler.Handler[Any]]):
    """What runs each kind: its Python handler, else its push handler as last heard of."""

    def __init__(
        self,
        installed: Mapping[str, handler.Handler[Any]],
        *,
        make: Callable[[PushHandler], handler.Handler[Any]],
    ) -> None:
        self._installed = installed
        self._make = make
        self._pushed: dict[str, tuple[PushHandler, handler.Handler[Any]]] = {}

    def __getitem__(self, kind: str) -> handler.Handler[Any]:
        found = self._installed.get(kind)
        return found if found is not None else self._pushed[kind][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pushed.keys() | self._installed.keys())

    def __len__(self) -> int:
        return len(self._pushed.keys() | self._installed.keys())

    def learn(self, found: Sequence[PushHandler]) -> None:
        """These are all there are. One that has not changed keeps what it has in flight."""
        self._pushed = {one.kind: self._known(one) for one in found}

    def _known(self, one: PushHandler) -> tuple[PushHandler, handler.Handler[Any]]:
        kept = self._pushed.get(one.kind)
        return kept if kept is not None and kept[0] == one else (one, self._make(one))
