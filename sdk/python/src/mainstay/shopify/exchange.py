"""One call to a shop: within its time, at its pace, repeated by the rules of `retries`."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import aiohttp
from yarl import URL

from mainstay import handler
from mainstay.pace import MAX_WAIT_MS, Call, NotNow, Pace, Paced
from mainstay.shopify import errors, graphql, rest, retries
from mainstay.shopify.received import CALLS, Received, received
from mainstay.shopify.throttle import cost_of
from mainstay.shopify.tokens import Token, Tokens

MAX_ANSWER_BYTES = 64 * 1024 * 1024
CONNECT_S = 5.0
# As the connection was not made, nothing was sent.
_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """`path` lies below the version. `harmless`: a repeat leaves what the first left. `cost` in
    the units of `policy`, which paces it."""

    method: str
    path: str
    policy: str
    cost: int
    harmless: bool
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    is_graphql: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """Calls of one shop in one version. `attempts` counts tries that failed at Shopify's side,
    `try_s` bounds one that may be repeated; who is throttled waits for as long as there is time."""

    shop: str
    origin: str
    api_version: str
    http: aiohttp.ClientSession
    tokens: Tokens
    paced: Paced | None
    user_agent: str
    attempts: int
    try_s: float

    async def run(self, request: Request, *, within_s: float) -> Received:
        """A 2xx, else raises `errors.ShopifyError`."""
        ends = asyncio.get_running_loop().time() + within_s
        token = await self._in_time(self.tokens.token(self.shop), ends)
        failures, is_renewed = 0, False
        while True:
            try:
                return await self._once(request, token, ends)
            except errors.TokenRefused:
                if is_renewed:
                    raise
                token = await self._in_time(self.tokens.rejected(self.shop, token), ends)
                is_renewed = True
            except errors.ShopifyError as error:
                failures += not isinstance(error, errors.Throttled)
                await self._pause(error, failures, ends)

    async def _pause(self, error: errors.ShopifyError, failures: int, ends: float) -> None:
        """Before the next try; raises the error when there is none."""
        pause_s = retries.pause_s(error, max(0, failures - 1), random.random())
        if pause_s is None or failures >= self.attempts:
            raise error
        if asyncio.get_running_loop().time() + pause_s >= ends:
            raise error
        await asyncio.sleep(pause_s)

    async def _once(self, request: Request, token: Token, ends: float) -> Received:
        is_sent, got = False, None
        try:
            async with asyncio.timeout_at(ends), self._pace(request, ends) as call:
                is_sent = True
                got = await self._send(request, token, call)
                _tell(call, request, got)
        except TimeoutError:
            # Where the time went to the limiter after the answer, the answer counts.
            if got is None:
                self._late(is_sent=is_sent and not request.harmless)
        assert got is not None
        self._judge(request, got)
        return got

    def _late(self, *, is_sent: bool) -> NoReturn:
        if is_sent:
            raise errors.OutcomeUnknown("the time was over before an answer came", shop=self.shop)
        raise errors.DeadlineExceeded("the time is over", shop=self.shop)

    @asynccontextmanager
    async def _pace(self, request: Request, ends: float) -> AsyncIterator[Call]:
        """A limiter that is away holds up nobody, nor one that thinks that the bucket never holds
        so much: Shopify's own is behind it."""
        async with AsyncExitStack() as stack:
            call = Call(request.cost)
            if self.paced is not None:
                left_s = max(0.0, ends - asyncio.get_running_loop().time())
                pace = Pace(
                    self.paced,
                    request.policy,
                    shop=self.shop,
                    max_wait_ms=min(MAX_WAIT_MS, int(left_s * 1000)),
                )
                try:
                    call = await stack.enter_async_context(pace.call(cost=request.cost))
                except handler.Unavailable:
                    pass
                except NotNow as error:
                    if error.retry_after_s is not None:
                        raise self._not_now(error, error.retry_after_s) from error
            yield call

    def _not_now(self, error: NotNow, retry_after_s: float) -> errors.Throttled:
        return errors.Throttled(str(error), shop=self.shop, retry_after_s=retry_after_s)

    async def _send(self, request: Request, token: Token, call: Call) -> Received:
        headers = {
            "X-Shopify-Access-Token": token.value,
            "Accept": "application/json",
            "User-Agent": self.user_agent,
        }
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        url = URL(f"{self.origin}/admin/api/{self.api_version}/{request.path}").with_query(
            dict(request.query)
        )
        try:
            async with (
                asyncio.timeout(self.try_s if request.harmless else None),
                self.http.request(
                    request.method,
                    url,
                    headers=headers,
                    data=request.body,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                ) as response,
            ):
                return received(response.status, response.headers, await _bounded(response))
        except _NOT_SENT as error:
            call.not_sent()
            said, was_sent = type(error).__name__, False
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            said, was_sent = type(error).__name__, True
        # Not from the error itself: it may hold the request, and with it the token.
        if was_sent and not request.harmless:
            raise errors.OutcomeUnknown(f"no answer came: {said}", shop=self.shop)
        raise errors.NetworkError(f"no answer came: {said}", shop=self.shop)

    def _judge(self, request: Request, answer: Received) -> None:
        """Raises what is not the answer to the request."""
        if 200 <= answer.status < 300:
            if answer.document is None and answer.body:
                raise self._broken(request, answer, "the answer is no JSON")
            if request.is_graphql:
                self._judge_graphql(request, answer)
            return
        raise self._error(request, answer)

    def _error(self, request: Request, answer: Received) -> errors.ShopifyError:
        status, known = answer.status, self._known(answer)
        said = _said(answer)
        if retries.refuses_token(status, said):
            return errors.TokenRefused(said, **known)
        if status == 429:
            wait_s = 1.0 if answer.retry_after_s is None else answer.retry_after_s
            return errors.Throttled(said, retry_after_s=wait_s, **known)
        if retries.may_have_run(status):
            return self._broken(request, answer, said)
        if status in (402, 423) or (status == 404 and request.is_graphql):
            return errors.ShopUnavailable(said, **known)
        if status == 403:
            return errors.ScopeDenied(said, **known)
        return errors.Refused(said, **known)

    def _judge_graphql(self, request: Request, answer: Received) -> None:
        document = answer.document
        if not isinstance(document, dict):
            raise self._broken(request, answer, "the answer is no GraphQL")
        found = graphql.codes(document)
        if graphql.THROTTLED in found:
            cost, known = cost_of(document), self._known(answer)
            if cost.never_fits:
                raise errors.QueryTooExpensive("more than the shop's bucket holds", **known)
            wait_s = cost.wait_s(random.random())
            raise errors.Throttled("throttled", cost=cost, retry_after_s=wait_s, **known)
        has_data = document.get("data") is not None
        if graphql.INTERNAL_ERROR in found and (request.harmless or not has_data):
            raise self._broken(request, answer, "an error inside of Shopify")

    def _broken(self, request: Request, answer: Received, detail: str) -> errors.ShopifyError:
        """Shopify's fault, and it may have acted."""
        kind = errors.UpstreamError if request.harmless else errors.OutcomeUnknown
        return kind(detail, retry_after_s=answer.retry_after_s, **self._known(answer))

    def _known(self, answer: Received) -> dict[str, Any]:
        return {
            "shop": self.shop,
            "status": answer.status,
            "request_id": answer.request_id,
            "document": answer.document,
        }

    async def _in_time(self, awaited: Awaitable[T], ends: float) -> T:
        try:
            async with asyncio.timeout_at(ends):
                return await awaited
        except TimeoutError:
            self._late(is_sent=False)


def _tell(call: Call, request: Request, answer: Received) -> None:
    """Pass on what the answer says of the shop's bucket."""
    if request.is_graphql and isinstance(answer.document, dict):
        call.told(answer.document)
    elif bucket := rest.calls_of(answer.headers.get(CALLS)):
        used, most = bucket
        call.bucket(available=max(0, most - used), maximum=most)
    if answer.status in (401, 429):
        call.not_sent()
    if answer.status == 429:
        wait_s = 1.0 if answer.retry_after_s is None else answer.retry_after_s
        call.bucket(retry_after_ms=int(wait_s * 1000))


def _said(answer: Received) -> str:
    """Shopify's own words, for people. A page is no words."""
    document = answer.document
    said = document.get("errors", document.get("error")) if isinstance(document, dict) else None
    return f"{answer.status}: {said}" if said else f"{answer.status}"


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    async for chunk in response.content.iter_any():
        read += chunk
        if len(read) > MAX_ANSWER_BYTES:
            raise aiohttp.ClientPayloadError("the answer is too long")
    return bytes(read)
