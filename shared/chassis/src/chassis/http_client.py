"""Calls to other services: a token for the callee, the trace, what is left of the deadline.

A failure says whether the request can have happened: `Unavailable` when it never left,
`Ambiguous` when the answer was lost. Retrying is the caller's decision, never made here.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from yarl import URL

from chassis.crypto import Caller, Minter
from chassis.kernel import deadline, errors
from chassis.web import problems, trace

CONNECT_S = 0.5
MAX_ANSWER_BYTES = 16 * 1024 * 1024


def open_session(
    *, connections: int = 100, per_host: int = 0, decompress: bool = False
) -> aiohttp.ClientSession:
    """One per process. No environment proxies, no cookies; time-outs are given per call.
    `per_host` 0: as many as there are. `decompress`: for those who answer compressed, as our own
    services do not."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, limit_per_host=per_host, keepalive_timeout=30
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=decompress,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)

    def checked(self) -> "Answer":
        """Itself, or the fault that the problem document tells of."""
        problems.raise_for(self.status, self.body, self.headers)
        return self


class ServiceClient:
    """Speaks to one service. `name` is the audience of its tokens, e.g. "queue-service"."""

    def __init__(
        self, *, name: str, base_url: str, session: aiohttp.ClientSession, minter: Minter
    ) -> None:
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._session = session
        self._minter = minter

    async def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        caller: Caller | None = None,
        timeout_s: float = deadline.DEFAULT_S,
    ) -> Answer:
        """Send it once. `path` is sent as given (already quoted)."""
        budget_s = deadline.budget_s(timeout_s)
        sent = {**self.headers(caller=caller, budget_s=budget_s), **(headers or {})}
        if json is not None:
            data = orjson.dumps(json)
            sent["Content-Type"] = "application/json"
        try:
            async with asyncio.timeout(budget_s):
                return await self._exchange(method, path, data, params, sent)
        except aiohttp.ClientConnectorError as error:
            raise errors.Unavailable(f"{self.name} cannot be reached") from error
        except aiohttp.ConnectionTimeoutError as error:
            raise errors.Unavailable(f"{self.name} cannot be reached in time") from error
        except TimeoutError as error:
            raise errors.Ambiguous(f"{self.name} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise errors.Ambiguous(f"the connection to {self.name} broke") from error

    def headers(self, *, caller: Caller | None, budget_s: float | None) -> dict[str, str]:
        """What every call to this service carries."""
        said = {
            "Authorization": f"Bearer {self._token(caller)}",
            "traceparent": trace.current().traceparent(),
        }
        if budget_s is not None:
            said[deadline.HEADER] = str(max(1, int(budget_s * 1000)))
        return said

    def url(self, path: str) -> str:
        return self._base_url + path

    async def _exchange(
        self,
        method: str,
        path: str,
        data: Any,
        params: Mapping[str, str] | None,
        headers: dict[str, str],
    ) -> Answer:
        async with self._session.request(
            method,
            URL(self.url(path), encoded=True),
            data=data,
            params=params,
            headers=headers,
            allow_redirects=False,
        ) as response:
            answered = await response.content.read(MAX_ANSWER_BYTES)
            while not response.content.at_eof():
                piece = await response.content.read(MAX_ANSWER_BYTES)
                answered += piece
                if len(answered) > MAX_ANSWER_BYTES:
                    raise errors.Unavailable(f"{self.name} answered with too much")
            return Answer(response.status, response.headers, answered)

    def _token(self, caller: Caller | None) -> str:
        if caller is None:
            return self._minter.mint(self.name)
        return self._minter.mint(
            self.name, key_id=caller.key_id, shop=caller.shop, scopes=caller.scopes
        )
