"""One owner behind one circuit: forwards requests, streams both ways, retries at most once.

The retry happens on a fresh connection, only after a failure of the connection itself, only for
requests that may be sent twice. Every call is a passive signal for the circuit: a lost connection,
a time-out and a 5xx count against it; 502 and 504 tell of others, 503 is overload and 4xx is the
caller's: none of these counts.
"""

import asyncio
import io
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
from yarl import URL

from chassis import http_client, logs
from chassis.crypto import Caller
from chassis.http_client import Answer, ServiceClient
from chassis.kernel import breaker, deadline, errors
from gateway.core import ports

log = logs.get(__name__)

GATEWAY = "gateway"
# A stream that moves nothing for this long is over.
IDLE_S = 30.0
# The longest poll an owner may hold (30 s), and what it may take to answer.
SILENCE_S = 45.0
CHUNK_BYTES = 64 * 1024
LARGE_BYTES = 1024 * 1024
RECENT = 3
RECENT_S = 2.0

_BROKEN = (aiohttp.ClientError, OSError)


def open_fresh_session() -> aiohttp.ClientSession:
    """Connections that are used once: what a retry travels on."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=50, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=http_client.CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    kept: aiohttp.ClientSession
    fresh: aiohttp.ClientSession


class Upstream:
    def __init__(
        self, *, client: ServiceClient, sessions: Sessions, circuit: breaker.Breaker
    ) -> None:
        self.name = client.name
        self.circuit = circuit
        self._client = client
        self._sessions = sessions
        self._successes: deque[float] = deque(maxlen=RECENT)

    @property
    def succeeds(self) -> bool:
        """Has real traffic succeeded just now, whatever a probe says?"""
        return len(self._successes) == RECENT and (
            time.monotonic() - self._successes[0] <= RECENT_S
        )

    @asynccontextmanager
    async def forward(self, order: ports.Order) -> AsyncIterator[ports.Reply]:
        """Without another road, the ramp of a recovering circuit does not hold it back."""
        with self._counted(essential=True, may_try=order.is_repeatable) as outcome:
            sent = await self._send_or_resend(outcome.hurried(order))
            try:
                outcome.of(sent.response.status)
                yield sent.reply(self._chunks(sent.response))
            finally:
                sent.close()

    async def call(self, order: ports.Order, *, essential: bool = False) -> Answer:
        """A small exchange of the gateway itself, answered as a whole."""
        with self._counted(essential=essential) as outcome:
            sent = await self._send_or_resend(order)
            try:
                body = await sent.reply(self._chunks(sent.response)).read()
            finally:
                sent.close()
            outcome.of(sent.response.status)
            return Answer(sent.response.status, sent.response.headers, body)

    def _counted(self, *, essential: bool, may_try: bool = True) -> "_Outcome":
        ticket = self.circuit.admit(essential=essential, may_try=may_try)
        if ticket is None:
            raise errors.Unavailable(f"{self.name} does not answer at the moment")
        return _Outcome(self.circuit, ticket, self._successes)

    async def _send_or_resend(self, order: ports.Order) -> "_Sent":
        try:
            return await self._send(self._sessions.kept, order)
        except errors.Unavailable as error:
            lost = isinstance(error.__cause__, _BROKEN) and not isinstance(
                error.__cause__, TimeoutError
            )
            if not (lost and order.is_repeatable):
                raise
        return await self._send(self._sessions.fresh, order)

    async def _send(self, session: aiohttp.ClientSession, order: ports.Order) -> "_Sent":
        budget_s = deadline.budget_s(order.timeout_s) if order.timeout_s else None
        said = self._client.headers(caller=_caller(order), budget_s=budget_s)
        upload = None if isinstance(order.body, bytes | None) else _Upload(order.body)
        try:
            async with asyncio.timeout(IDLE_S if upload else budget_s) as watch:
                response = await session.request(
                    order.method,
                    URL(self._client.url(order.path), encoded=True),
                    data=upload.pieces(watch) if upload else _whole(order.body),
                    headers=[*order.headers, *said.items()],
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=budget_s,
                        sock_connect=http_client.CONNECT_S,
                        sock_read=None if budget_s else SILENCE_S,
                    ),
                )
        except (TimeoutError, *_BROKEN) as error:
            if upload is not None and upload.fault is not None:
                raise upload.fault from None
            raise self._fault(error) from error
        return _Sent(response, upload)

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                yield chunk
        except (TimeoutError, *_BROKEN) as error:
            raise self._fault(error) from error

    def _fault(self, error: BaseException) -> errors.Fault:
        match error:
            case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
                return errors.Unavailable(f"{self.name} cannot be reached")
            case TimeoutError():
                return errors.Ambiguous(f"{self.name} did not answer in time")
            case _:
                return errors.Ambiguous(f"the connection to {self.name} broke")


class _Outcome:
    """Gives the ticket back, whatever happens."""

    def __init__(
        self, circuit: breaker.Breaker, ticket: breaker.Ticket, successes: deque[float]
    ) -> None:
        self._circuit = circuit
        self._ticket = ticket
        self._successes = successes
        self._settled = False

    def hurried(self, order: ports.Order) -> ports.Order:
        """A trial has half the time: who may be dead still is not waited for as usual."""
        return replace(order, timeout_s=order.timeout_s / 2) if self._ticket.is_trial else order

    def of(self, status: int) -> None:
        self._settled = True
        if status < 500:
            self._successes.append(time.monotonic())
            self._circuit.success(self._ticket)
        elif status in (502, 503, 504):
            self._circuit.ignore(self._ticket)
        else:
            self._circuit.failure(self._ticket)

    def __enter__(self) -> "_Outcome":
        return self

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        if self._settled:
            return
        if isinstance(error, errors.Unavailable):
            self._circuit.failure(self._ticket)
        else:
            self._circuit.ignore(self._ticket)


class _Upload:
    """A caller's body on its way to the owner. Remembers why it ended early: the driver does not.

    Each piece that the owner's side takes moves the watch: only idleness ends an upload.
    """

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source
        self.is_done = False
        self.fault: errors.Fault | None = None

    async def pieces(self, watch: asyncio.Timeout) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        try:
            async for piece in self._source:
                yield piece
                if watch.when() is not None and not watch.expired():
                    watch.reschedule(clock() + IDLE_S)
            self.is_done = True
        except errors.Fault as fault:
            self.fault = fault
            raise


@dataclass(frozen=True, slots=True)
class _Sent:
    response: aiohttp.ClientResponse
    upload: _Upload | None

    def reply(self, chunks: AsyncIterator[bytes]) -> ports.Reply:
        return ports.Reply(
            status=self.response.status,
            headers=self.response.headers,
            length=self.response.content_length,
            chunks=chunks,
        )

    def close(self) -> None:
        """A connection is kept only when both directions have ended."""
        is_uploaded = self.upload is None or self.upload.is_done
        if is_uploaded and self.response.content.at_eof():
            self.response.release()
        else:
            self.response.close()


def _whole(body: bytes | AsyncIterator[bytes] | None) -> bytes | io.BytesIO | None:
    """The driver writes bytes at once: large ones in pieces, so that others get their turn."""
    assert isinstance(body, bytes | None)
    return io.BytesIO(body) if body is not None and len(body) > LARGE_BYTES else body


def _caller(order: ports.Order) -> Caller | None:
    identity = order.identity
    if order.is_own:
        return None
    if identity is None:
        return Caller(service=GATEWAY)
    return Caller(
        service=GATEWAY, key_id=identity.key_id, shop=identity.shop, scopes=identity.scopes
    )
