"""One call over HTTP: within its time, repeated where a repeat is harmless, errors by their name.

Calls of this package are idempotent by the ids they carry, or harm nobody when they are repeated;
those that are neither are tried once.
"""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID

import aiohttp
from pydantic import TypeAdapter, ValidationError
from yarl import URL

from mainstay import errors, uploads

RETRIED = frozenset({429, 502, 503, 504})
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
MAX_RETRY_AFTER_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answered:
    """A 2xx."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read(self, model: type[T], **known: Any) -> T:
        """The document as `model`, with what the headers said. Raises `errors.Unavailable`."""
        try:
            return TypeAdapter(model).validate_python(json.loads(self.body) | known)
        except (ValueError, TypeError, ValidationError) as error:
            raise errors.Unavailable(
                "the answer is not what this client knows", status=self.status, code="bad_answer"
            ) from error

    def answer(self, model: type[T], **known: Any) -> T:
        """As `read`; the model is an `answers.Answer`, which says who decided."""
        said = self.headers.get
        return self.read(
            model,
            road=said("Mainstay-Road"),
            backend=said("Mainstay-Backend"),
            degraded=said("Degraded"),
            **known,
        )


def step(of_path: object) -> str:
    """An id or a name as one step of a path."""
    return quote(str(of_path), safe="")


class Transport:
    """Holds the connections; `async with`."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_s: float,
        attempts: int,
        stall_timeout_s: float,
    ) -> None:
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise ValueError("base_url looks like https://host[:port]")
        self._base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._stall_timeout_s = stall_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=None)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        if_match: str | None = None,
        wait_s: float = 0.0,
        within_s: float | None = None,
        tries: int | None = None,
    ) -> Answered:
        """`wait_s`: how long the other side was asked to wait, beside the time of a try, which is
        `within_s`. `tries`: instead of the client's attempts."""
        timeout_s = (self._timeout_s if within_s is None else within_s) + wait_s
        headers = {"Request-Timeout-Ms": str(max(1, int(timeout_s * 1000)))}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        if if_match is not None:
            headers["If-Match"] = if_match
        data = None if body is None else _encoded(body)
        if data is not None:
            headers["Content-Type"] = "application/json"

        async def once() -> Answered:
            async with asyncio.timeout(timeout_s):
                return await self._send(method, self._url(path, query), headers, data)

        return await self._repeated(once, attempts=tries or self._attempts)

    async def upload(
        self,
        path: str,
        rows: uploads.Rows,
        *,
        content_type: str,
        query: Mapping[str, object],
    ) -> Answered:
        """Stream rows; an error while reading them is raised as it is and never repeated."""
        url, headers = self._url(path, query), {"Content-Type": content_type}

        async def once() -> Answered:
            source = _Source(uploads.chunks_of(rows))
            try:
                async with asyncio.timeout(self._stall_timeout_s) as deadline:
                    loop = asyncio.get_running_loop()
                    source.on_chunk = lambda: deadline.reschedule(
                        loop.time() + self._stall_timeout_s
                    )
                    return await self._send("POST", url, headers, source.chunks())
            except (aiohttp.ClientError, OSError):
                if source.broken is not None:
                    raise _SourceBroken(source.broken) from None
                raise

        attempts = self._attempts if uploads.is_repeatable(rows) else 1
        try:
            return await self._repeated(once, attempts=attempts)
        except _SourceBroken as error:
            raise error.reason from None

    async def _repeated(
        self, once: Callable[[], Awaitable[Answered]], *, attempts: int
    ) -> Answered:
        for failures in range(attempts):
            try:
                return await once()
            except (aiohttp.ClientError, OSError) as lost:
                # Not from it: it may hold the request, and with it the key.
                error: errors.ApiError = errors.Unavailable(
                    f"{type(lost).__name__}: {lost}", code="no_answer"
                )
            except errors.ApiError as told:
                if told.status not in RETRIED or (told.retry_after_s or 0) > MAX_RETRY_AFTER_S:
                    raise
                error = told
            if failures + 1 < attempts:
                await asyncio.sleep(_pause_s(failures, error.retry_after_s))
        raise error

    async def _send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        data: bytes | AsyncIterator[bytes] | None,
    ) -> Answered:
        if self._session is None:
            raise RuntimeError("use the client with `async with`")
        async with self._session.request(
            method, url, headers=headers, data=data, allow_redirects=False
        ) as response:
            body = await _bounded(response)
            if 200 <= response.status < 300:
                return Answered(response.status, response.headers, body)
            raise errors.from_answer(response.status, response.headers, body)

    def _url(self, path: str, query: Mapping[str, object] | None) -> URL:
        said = {name: _text(value) for name, value in (query or {}).items() if value is not None}
        return URL(
            f"{self._base_url}{path}" + (f"?{urlencode(said)}" if said else ""), encoded=True
        )


class _SourceBroken(Exception):
    """The caller's own rows could not be read."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason


class _Source:
    """Rows on their way out: tells when one moved, keeps what broke them."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.broken: Exception | None = None
        self.on_chunk: Callable[[], None] = lambda: None

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                self.on_chunk()
                yield chunk
        except Exception as error:
            self.broken = error
            raise


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > MAX_ANSWER_BYTES:
            raise errors.Unavailable("the answer is too long", code="bad_answer")
    return bytes(read)


def _pause_s(failures: int, retry_after_s: float | None) -> float:
    backoff_s: float = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures)
    return max(retry_after_s or 0.0, backoff_s * random.uniform(0.5, 1))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, default=_json, ensure_ascii=False, allow_nan=False).encode()


def _json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
