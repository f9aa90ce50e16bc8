"""Shopify's Admin API, GraphQL and REST.

    async with Admin(KeptTokens(mainstay), paced=mainstay) as admin:
        shop = admin.shop("flowers.myshopify.com")
        answer = await shop.graphql("{ shop { name } }")

A call waits while the shop is throttled, is repeated where that does no harm, and goes on with a
new token when Shopify refuses the one it had; all within its time. What is left is an
`errors.ShopifyError`.
"""

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import aiohttp

from mainstay.client import Client
from mainstay.pace import Paced, paced_by
from mainstay.shopify import errors, graphql, rest, retries
from mainstay.shopify.bulk import BULK_WITHIN_S, Bulk, Row, nested
from mainstay.shopify.exchange import Exchange, Request
from mainstay.shopify.graphql import GraphQLAnswer
from mainstay.shopify.notices import Notices
from mainstay.shopify.pages import RestAnswer
from mainstay.shopify.received import DEPRECATED, LINK, REQUEST_ID, VERSION, Received
from mainstay.shopify.responses import MemoryResponses, Responses, packed, unpacked
from mainstay.shopify.shops import Origins
from mainstay.shopify.throttle import Costs
from mainstay.shopify.tokens import Token, Tokens

API_VERSION = "2026-10"
GRAPHQL_POLICY, REST_POLICY = "shopify-gql", "shopify-rest"
IDEMPOTENCY_VARIABLE, CURSOR_VARIABLE = "idempotencyKey", "cursor"
WITHIN_S, TRY_S, ATTEMPTS = 20.0, 10.0, 5


class Options(TypedDict, total=False):
    """What a query may say beside its text and variables."""

    operation_name: str | None
    extensions: Mapping[str, Any] | None
    idempotency_key: str | None
    cost: int | None
    max_age_s: float
    within_s: float | None


class Admin:
    """What the shops of a process share: connections, tokens, the pace. Use as `async with`.

    `paced`: a `Client`, a handler's `Context`, or whatever else keeps a pace; without it Shopify's
    own refusals are waited for. `responses`: where answers are remembered for those who ask for
    that with `max_age_s`. `within_s` bounds a call with all its tries and waits, `try_s` a try of
    one that may be repeated. An `http` of your own stays open; it should keep no cookies.
    """

    def __init__(
        self,
        tokens: Tokens,
        *,
        paced: Paced | Client | None = None,
        http: aiohttp.ClientSession | None = None,
        api_version: str = API_VERSION,
        origins: Origins | None = None,
        user_agent: str = "mainstay",
        within_s: float = WITHIN_S,
        try_s: float = TRY_S,
        attempts: int = ATTEMPTS,
        responses: Responses | None = None,
    ) -> None:
        self.tokens = tokens
        self.paced = None if paced is None else paced_by(paced)
        self.api_version = api_version
        self.origins = origins or Origins()
        self.user_agent = user_agent
        self.within_s = within_s
        self.try_s = try_s
        self.attempts = attempts
        self.responses = responses or MemoryResponses()
        self.notices = Notices()
        self.costs = Costs()
        self._given = http
        self._own: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._given is None:
            self._own = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._own is not None:
            await self._own.close()
            self._own = None

    @property
    def http(self) -> aiohttp.ClientSession:
        session = self._given or self._own
        if session is None:
            raise RuntimeError("use it with `async with`")
        return session

    def shop(self, name: str, *, api_version: str | None = None) -> "AdminClient":
        """Raises ValueError for a name that is no shop's."""
        shop = self.origins.named(name)
        exchange = Exchange(
            shop=shop,
            origin=self.origins.of(shop),
            api_version=api_version or self.api_version,
            http=self.http,
            tokens=self.tokens,
            paced=self.paced,
            user_agent=self.user_agent,
            attempts=self.attempts,
            try_s=self.try_s,
        )
        return AdminClient(self, exchange)


@dataclass(frozen=True, slots=True)
class AdminClient:
    """One shop in one version; made by `Admin.shop`."""

    admin: Admin
    exchange: Exchange

    @property
    def shop(self) -> str:
        return self.exchange.shop

    async def graphql(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> GraphQLAnswer:
        """As `graphql_answer`, but errors without any data are raised."""
        return (await self.graphql_answer(query, variables, **options)).checked()

    async def graphql_answer(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> GraphQLAnswer:
        """What Shopify answered, errors too; raised is what is no answer.

        A mutation is repeated only with an `idempotency_key`: then a repeat must do no harm, by
        Shopify's `@idempotent(key: $idempotencyKey)`, whose variable is filled in, or by itself.
        `cost` is reserved at the pace, instead of what the query cost before. `max_age_s`: an
        answer of that age will do; mutations and answers with errors are not remembered.
        """
        runs = graphql.chosen(query, options.get("operation_name"))
        changes = runs is None or runs.kind != graphql.QUERY
        request = self._query(query, variables, changes=changes, **options)
        max_age_s = 0.0 if changes else options.get("max_age_s", 0.0)
        try:
            received, cached = await self._run(request, max_age_s, options.get("within_s"))
        except errors.UpstreamError as error:
            if not (isinstance(error.document, dict) and error.document.get("data")):
                raise
            # Part of it is there, whatever broke the rest.
            return GraphQLAnswer(error.document, self.shop, request_id=error.request_id)
        answer = GraphQLAnswer(received.document, self.shop, cached=cached, **_beside(received))
        self.admin.costs.learn(query, answer.cost.requested)
        self._notice(runs.name if runs is not None and runs.name else "a query", received)
        return answer

    def _query(
        self,
        query: str,
        variables: Mapping[str, Any] | None,
        *,
        changes: bool,
        **options: Unpack[Options],
    ) -> Request:
        key, sent = options.get("idempotency_key"), dict(variables or {})
        if key is not None and f"${IDEMPOTENCY_VARIABLE}" in query:
            sent.setdefault(IDEMPOTENCY_VARIABLE, key)
        said = {
            "query": query,
            "variables": sent or None,
            "operationName": options.get("operation_name"),
            "extensions": options.get("extensions"),
        }
        return Request(
            method="POST",
            path="graphql.json",
            policy=GRAPHQL_POLICY,
            cost=options.get("cost") or self.admin.costs.of(query),
            harmless=key is not None or not changes,
            body=_encoded({name: value for name, value in said.items() if value is not None}),
            is_graphql=True,
        )

    async def paginate(
        self,
        query: str,
        path: str,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Any]:
        """Every node of the connection at `path` (`products`, `shop.products`). The query takes
        `$cursor: String`, gives it to the connection as `after`, and asks for
        `pageInfo { hasNextPage endCursor }` and for `nodes` or `edges { node }`. `within_s` is for
        one page. An answer with errors is raised."""
        cursor: str | None = None
        while True:
            sent = {**(variables or {}), CURSOR_VARIABLE: cursor}
            answer = await self.graphql(query, sent, **options)
            page = graphql.connection(answer.done(), path)
            for node in page.nodes:
                yield node
            if page.next_cursor is None:
                return
            if page.next_cursor == cursor:
                raise ValueError(f"the query gives its ${CURSOR_VARIABLE} to nothing")
            cursor = page.next_cursor

    async def bulk_start(self, query: str, *, grouped: bool = False) -> str:
        """Let Shopify run a query over everything; the operation's id, for `bulk_rows`, here or in
        another process. Raises `UserErrors` when too many run, `OutcomeUnknown` when the answer
        was lost."""
        return await self._bulk.start(query, grouped=grouped)

    async def bulk_rows(
        self, operation_id: str, *, grouped: bool = False, within_s: float = BULK_WITHIN_S
    ) -> AsyncGenerator[Row, None]:
        """Wait for the operation, then its rows, none of them twice. With `grouped`, which
        `bulk_start` has to be told as well, a row holds what belongs to it as `__children`;
        otherwise it follows, and names it as `__parentId`. Raises `BulkFailed`."""
        ended = await self._bulk.ended(operation_id, within_s=within_s)
        async with aclosing(self._bulk.rows(ended.url)) as rows:
            async for row in nested(rows) if grouped else rows:
                yield row

    async def bulk(
        self, query: str, *, grouped: bool = False, within_s: float = BULK_WITHIN_S
    ) -> AsyncGenerator[Row, None]:
        """`bulk_start` and `bulk_rows`."""
        started = await self.bulk_start(query, grouped=grouped)
        read = self.bulk_rows(started, grouped=grouped, within_s=within_s)
        async with aclosing(read) as rows:
            async for row in rows:
                yield row

    @property
    def _bulk(self) -> Bulk:
        return Bulk(self.shop, self.exchange.origin, self.graphql, self.exchange.http)

    async def rest(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Any = None,
        idempotency_key: str | None = None,
        max_age_s: float = 0.0,
        within_s: float | None = None,
    ) -> RestAnswer:
        """`path` is below the version: `products`, `orders/1/refunds`. With an `idempotency_key` a
        POST is repeated too, so a second one must do no harm. `max_age_s` is for GET."""
        method = method.upper()
        steps = rest.path_of(path)
        request = Request(
            method=method,
            path=steps,
            policy=REST_POLICY,
            cost=1,
            harmless=idempotency_key is not None or retries.is_harmless(method),
            query=rest.query_of(query or {}),
            body=None if body is None else _encoded(body),
        )

        async def page(info: str) -> RestAnswer:
            kept = {name: value for name, value in request.query.items() if name in rest.WITH_PAGE}
            return await self.rest(
                "GET", path, query={**kept, "page_info": info}, max_age_s=max_age_s,
                within_s=within_s,
            )  # fmt: skip

        received, cached = await self._run(request, max_age_s if method == "GET" else 0.0, within_s)
        self._notice(f"{method} {steps.partition('/')[0]}", received)
        return RestAnswer(
            status=received.status,
            document=received.document,
            pages=self._pages(received),
            cached=cached,
            ask=page,
            **_beside(received),
        )

    def _pages(self, received: Received) -> dict[str, str]:
        bases = tuple(
            f"{origin}/admin/api/" for origin in (f"https://{self.shop}", self.exchange.origin)
        )
        return rest.pages_of(received.headers.get(LINK), bases)

    def _notice(self, what: str, received: Received) -> None:
        said = _beside(received)
        self.admin.notices.version(self.exchange.api_version, said["api_version"])
        self.admin.notices.deprecated(what, said["deprecated"])

    async def _run(
        self, request: Request, max_age_s: float, within_s: float | None
    ) -> tuple[Received, bool]:
        """The answer, and whether it was remembered."""
        within_s = self.admin.within_s if within_s is None else within_s
        if max_age_s <= 0:
            return await self.exchange.run(request, within_s=within_s), False
        token = await self.exchange.tokens.token(self.shop)
        key = self._key(request, token)
        kept = unpacked(await self.admin.responses.get(key), max_age_s)
        if kept is not None:
            return kept, True
        received = await self.exchange.run(request, within_s=within_s)
        if not (isinstance(received.document, dict) and received.document.get("errors")):
            await self.admin.responses.put(key, packed(received), max_age_s)
        return received, False

    def _key(self, request: Request, token: Token) -> str:
        """Of exactly this question by this token; nothing can be read from it."""
        asked = [self.shop, token.value, self.exchange.api_version, request.path,
                 sorted(request.query.items()), (request.body or b"").decode()]  # fmt: skip
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _beside(received: Received) -> dict[str, str | None]:
    said = received.headers.get
    return {
        "api_version": said(VERSION),
        "request_id": said(REQUEST_ID),
        "deprecated": said(DEPRECATED),
    }


def _encoded(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
