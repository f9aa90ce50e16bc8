"""Shopify's Admin API: the client of the SDK, with tokens of our own and faults by our names."""

import json
from dataclasses import replace
from typing import Unpack

from chassis.kernel import deadline
from chassis.kernel import errors as faults
from chassis.kernel.secret import reveal
from mainstay import handler
from mainstay.limits import Observed
from mainstay.pace import Paced
from mainstay.shopify import errors, graphql, rest
from mainstay.shopify.admin import GRAPHQL_POLICY, REST_POLICY, Admin
from mainstay.shopify.exchange import Exchange, Request
from mainstay.shopify.received import CALLS, DEPRECATED, LINK, REQUEST_ID, VERSION, Received
from mainstay.shopify.throttle import cost_of
from mainstay.shopify.tokens import Token
from session_service.core.admin import Call, Keeper, KeptToken, Reply

WITHIN_S = 20.0
# What is left to tell the caller in.
MARGIN_S = 0.05
PASSED = (VERSION, DEPRECATED, REQUEST_ID, CALLS)
OK, MULTIPLE = 200, 300


class OwnTokens:
    """The tokens that this service keeps, as the SDK asks for them. For one call: it remembers what
    the last was like."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.degraded: str | None = None

    async def token(self, shop: str) -> Token:
        return self._token(await self._keeper.token(shop))

    async def rejected(self, shop: str, token: Token) -> Token:
        held = await self._keeper.rejected(shop, token.version)
        if held.version == token.version:
            raise errors.TokenRefused("nothing renews the token now", shop=shop, status=401)
        return self._token(held)

    def _token(self, held: KeptToken) -> Token:
        self.degraded = held.degraded
        return Token(reveal(held.token), held.version)


class PacedOnce:
    """The pace of one call, which goes on without one."""

    def __init__(self, paced: Paced) -> None:
        self._paced = paced
        self.degraded: str | None = None

    async def reserve(
        self, policy: str, *, shop: str | None, cost: int, max_wait_ms: int
    ) -> handler.Reservation:
        try:
            return await self._paced.reserve(policy, shop=shop, cost=cost, max_wait_ms=max_wait_ms)
        except handler.Unavailable:
            self.degraded = "pace;none"
            raise

    async def refund(self, slot: handler.Reservation, cost: int | None = None) -> int:
        return await self._paced.refund(slot, cost)

    async def observe(
        self, policy: str, *, shop: str | None = None, **told: Unpack[Observed]
    ) -> None:
        await self._paced.observe(policy, shop=shop, **told)


class ShopifyAdmin:
    """The port of `core.admin`. `paced` None: nobody is asked for a pace."""

    def __init__(self, admin: Admin, *, keeper: Keeper, paced: Paced | None) -> None:
        self._admin = admin
        self._keeper = keeper
        self._paced = paced

    async def ask(self, call: Call) -> Reply:
        tokens = OwnTokens(self._keeper)
        pace = PacedOnce(self._paced) if self._paced is not None else None
        known = self._admin.shop(call.shop, api_version=call.version).exchange
        exchange = replace(known, tokens=tokens, paced=pace)
        within_s = max(deadline.LEAST_USEFUL_S, deadline.budget_s(WITHIN_S) - MARGIN_S)
        try:
            received = await exchange.run(self._request(call), within_s=within_s)
            reply = self._told(call, exchange, received)
        except errors.ShopifyError as error:
            reply = _passed_on(error)
        said = [tokens.degraded, pace.degraded if pace is not None else None]
        return replace(reply, degraded=", ".join(filter(None, said)) or None)

    def _request(self, call: Call) -> Request:
        return Request(
            method=call.method,
            path=call.path,
            policy=REST_POLICY if call.text is None else GRAPHQL_POLICY,
            cost=1 if call.text is None else self._admin.costs.of(call.text),
            harmless=call.harmless,
            query=call.query,
            body=call.body,
            is_graphql=call.text is not None,
        )

    def _told(self, call: Call, exchange: Exchange, received: Received) -> Reply:
        document = received.document
        if call.text is not None:
            self._admin.costs.learn(call.text, cost_of(document).requested)
        notices = self._admin.notices
        notices.version(exchange.api_version, received.headers.get(VERSION))
        notices.deprecated(f"a {call.api} call", received.headers.get(DEPRECATED))
        bases = tuple(
            f"{origin}/admin/api/" for origin in (f"https://{call.shop}", exchange.origin)
        )
        return Reply(
            status=received.status,
            headers={name: received.headers[name] for name in PASSED if name in received.headers},
            body=received.body,
            pages=rest.pages_of(received.headers.get(LINK), bases),
            is_good=received.status == OK
            and not (isinstance(document, dict) and graphql.errors_of(document)),
        )


def _passed_on(error: errors.ShopifyError) -> Reply:
    """What the caller is to judge, or else the fault that it is to us."""
    match error:
        case errors.Refused() | errors.ScopeDenied() if error.status >= 400:
            return _reply(error)
        case errors.QueryTooExpensive() | errors.UpstreamError() if error.status == OK and (
            isinstance(error.document, dict)
        ):
            return _reply(error)
    raise _fault(error) from error


def _reply(error: errors.ShopifyError) -> Reply:
    document = error.document if error.document is not None else {"errors": error.detail}
    headers = {REQUEST_ID: error.request_id} if error.request_id else {}
    return Reply(status=error.status, headers=headers, body=json.dumps(document).encode())


def _fault(error: errors.ShopifyError) -> faults.Fault:
    """Of Shopify's own words no more than the SDK lets into a text."""
    match error:
        case errors.TokenRefused():
            return faults.Upstream("Shopify refuses the token of the shop", code="shopify_refused")
        case errors.ShopUnavailable():
            return faults.Conflict(error.detail, code="shop_unavailable")
        case errors.Throttled():
            return faults.Limited(
                "the shop's own limit leaves no room in the time there is",
                code="shopify_throttled",
                retry_after_s=error.retry_after_s,
            )
        case errors.OutcomeUnknown():
            return faults.Upstream(
                f"it may have been done or not: {error.detail}", code="shopify_outcome_unknown"
            )
        case errors.DeadlineExceeded():
            return faults.Late("Shopify did not answer in the time there was")
    return faults.Unavailable(
        f"Shopify does not answer as it should: {error.detail}",
        code="upstream_unavailable",
        retry_after_s=error.retry_after_s,
    )
