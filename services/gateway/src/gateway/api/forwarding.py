"""Passing a request on to its owner, and the answer back: what travels and what does not."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from aiohttp import web

from chassis.kernel import errors
from chassis.web import body, health, trace
from gateway.api import door
from gateway.api import keys as app_keys
from gateway.core import ports
from gateway.core.ports import Road

# Of one connection alone, or ours to say.
HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade", "content-length",
    }
)  # fmt: skip
NOT_INWARDS = HOP_BY_HOP | {
    "authorization", "cookie", "host", "expect", "forwarded", "traceparent", "request-timeout-ms",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "accept-encoding",
}  # fmt: skip
NOT_OUTWARDS = HOP_BY_HOP | {"server", "date", "set-cookie", "traceparent", "mainstay-road"}
REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
WHOLE_BYTES = 1024 * 1024
DEFAULT_S = 5.0
HANG_UP_CHECK_S = 0.2
# For the metrics alone: nobody hears it.
HUNG_UP = 499


async def call(
    request: web.Request, owner: str, *, timeout_s: float = DEFAULT_S
) -> web.StreamResponse:
    """A request with a small body, answered as a whole or as a stream."""
    return await _forward(request, owner, await _read(request), timeout_s)


async def poll(request: web.Request, owner: str) -> web.StreamResponse:
    """A call that its owner may hold for long. It ends when the caller hangs up, so that what it
    waits for stays with the owner; and when the gateway stops, which it must not hold up."""
    answering = asyncio.create_task(call(request, owner, timeout_s=0.0))
    try:
        while not answering.done():
            await asyncio.wait((answering,), timeout=HANG_UP_CHECK_S)
            if request.transport is None or request.transport.is_closing():
                return web.Response(status=HUNG_UP)
            if request.app[health.HEALTH].is_stopping and not answering.done():
                raise errors.Unavailable("the gateway stops; ask again", retry_after_s=1.0)
        return await answering
    finally:
        answering.cancel()


async def upload(request: web.Request, owner: str) -> web.StreamResponse:
    """A body of any length, passed on as it comes."""
    return await _forward(request, owner, _pieces(request), 0.0)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An owner's answer as a whole."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def response(self) -> web.Response:
        return web.Response(status=self.status, body=self.body, headers=self.headers)


async def fetch(request: web.Request, owner: str, *, timeout_s: float = DEFAULT_S) -> Fetched:
    order = _order(request, await _read(request), timeout_s)
    async with request.app[app_keys.OWNERS][owner].forward(order) as reply:
        return Fetched(reply.status, _outwards(reply.headers), await reply.read())


async def _read(request: web.Request) -> bytes | None:
    return await body.read_bytes(request) if request.can_read_body else None


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.content.iter_any():
            yield piece
    except (web.RequestPayloadError, OSError) as error:
        # The caller's fault, so that it says nothing about the owner.
        raise errors.Malformed("the upload broke off") from error


async def _forward(
    request: web.Request, owner: str, sent: bytes | AsyncIterator[bytes] | None, timeout_s: float
) -> web.StreamResponse:
    order = _order(request, sent, timeout_s)
    async with request.app[app_keys.OWNERS][owner].forward(order) as reply:
        headers = _outwards(reply.headers)
        if reply.length is not None and reply.length <= WHOLE_BYTES:
            return web.Response(status=reply.status, body=await reply.read(), headers=headers)
        return await _stream(request, reply, headers)


def _order(
    request: web.Request, sent: bytes | AsyncIterator[bytes] | None, timeout_s: float
) -> ports.Order:
    return ports.Order(
        method=request.method,
        path=request.rel_url.raw_path_qs,
        headers=_inwards(request),
        body=sent,
        identity=request.get(app_keys.IDENTITY),
        timeout_s=timeout_s,
        is_repeatable=isinstance(sent, bytes | None)
        and (request.method in REPEATABLE or "Idempotency-Key" in request.headers),
    )


async def _stream(
    request: web.Request, reply: ports.Reply, headers: list[tuple[str, str]]
) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.headers["traceparent"] = trace.current().traceparent()
    await response.prepare(request)
    try:
        async for chunk in reply.chunks:
            await response.write(chunk)
    except errors.Fault as fault:
        # Half an answer is out: only a broken connection says that the rest will not come.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the owner broke off") from fault
    await response.write_eof()
    return response


def _inwards(request: web.Request) -> ports.Headers:
    kept = [
        (name, value) for name, value in request.headers.items() if name.lower() not in NOT_INWARDS
    ]
    return [
        *kept,
        ("X-Forwarded-For", door.client_address(request)),
        ("X-Forwarded-Host", request.host),
    ]


def _outwards(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    kept = [(name, value) for name, value in headers.items() if name.lower() not in NOT_OUTWARDS]
    return [*kept, ("Mainstay-Road", Road.DIRECT)]
