"""Deliveries to push handlers, through the egress guard."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from chassis import egress, logs
from chassis.kernel import errors
from chassis.kernel.clock import Clock, rfc3339
from chassis.web import body
from mainstay import handler
from queue_service import metrics
from queue_service.core.handlers import PushHandler
from queue_service.core.push import Answered, PushFailed, signature

log = logs.get(__name__)

MAX_RESULT_BYTES = 256 * 1024
USER_AGENT = "Mainstay"


class PushClient:
    """The Deliver of `core.push` over HTTP; `session` is one of `chassis.egress`."""

    def __init__(self, session: aiohttp.ClientSession, *, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def __call__(
        self, to: PushHandler, secret: bytes, args: Mapping[str, Any], ctx: handler.Context
    ) -> Answered:
        document = json.dumps(_delivery(args, ctx.job), ensure_ascii=False).encode()
        headers = self._headers(secret, str(ctx.job.id), document)
        started, limit_s = time.monotonic(), min(to.timeout_s, ctx.remaining_s())
        try:
            async with asyncio.timeout(limit_s):
                answered = await self._post(to.url, document, headers)
        except TimeoutError:
            metrics.PUSHES.labels("timeout").inc()
            raise PushFailed(f"no answer within {limit_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            refused = egress.was_refused(error)
            metrics.PUSHES.labels("refused" if refused else "unreachable").inc()
            why = "its address may not be called" if refused else "it cannot be reached"
            raise PushFailed(f"{why} ({type(error).__name__})") from None
        metrics.PUSH_DURATION_S.observe(time.monotonic() - started)
        metrics.PUSHES.labels(f"{answered.status // 100}xx").inc()
        return answered

    def _headers(self, secret: bytes, message_id: str, document: bytes) -> dict[str, str]:
        timestamp = int(self._clock.now().timestamp())
        return {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(
                secret, message_id=message_id, timestamp=timestamp, body=document
            ),
        }

    async def _post(self, url: str, document: bytes, headers: dict[str, str]) -> Answered:
        async with self._session.post(
            URL(url, encoded=True), data=document, headers=headers, allow_redirects=False
        ) as response:
            is_good = 200 <= response.status < 300
            result = await _result(response) if is_good else None
            return Answered(response.status, response.headers.get("Retry-After"), result)


async def _result(response: aiohttp.ClientResponse) -> Any:
    """The body as JSON. What is none, or too much to keep, is no reason to run the job again."""
    read = bytearray()
    async for piece in response.content.iter_chunked(64 * 1024):
        read += piece
        if len(read) > MAX_RESULT_BYTES:
            log.warning("push_result_dropped", why="too long")
            response.close()
            return None
    if not read:
        return None
    try:
        return body.parse_value(bytes(read))
    except errors.Fault:
        return None


def _delivery(args: Mapping[str, Any], job: handler.JobInfo) -> dict[str, Any]:
    """A `contracts.handlers.Delivery`."""
    return {
        "id": str(job.id),
        "kind": job.kind,
        "queue": job.queue,
        "shop": job.shop,
        "attempt": job.attempt,
        "max_attempts": job.max_attempts,
        "args": args,
        "batch_id": str(job.batch_id) if job.batch_id else None,
        "tags": list(job.tags),
        "created_at": rfc3339(job.created_at) if job.created_at else None,
    }
