"""What may come of a call to Shopify instead of an answer.

ShopifyError
├── AuthError
│   ├── ReauthRequired     no token works any more; the shop must authorize the app again
│   ├── TokenRefused       refused, and the one that came in its place too
│   └── ScopeDenied        the token may not do this
├── ShopUnavailable        frozen, locked, gone
├── Throttled              not now: `retry_after_s`; it was not run
├── QueryTooExpensive      more than Shopify ever runs at once
├── GraphQLErrors          an answer without data
├── UserErrors             a mutation that was understood and not done
├── BulkFailed             a bulk operation that did not complete
├── Refused                another 3xx or 4xx: the request is wrong
├── OutcomeUnknown         a change may have been made or not, and nothing was repeated
├── UpstreamError          5xx, or nothing that can be read; it may be repeated
│   └── NetworkError       no answer
├── TokenUnavailable       whoever keeps the tokens does not answer
└── DeadlineExceeded       the time was over before it was sent, or it may be repeated
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mainstay.shopify.throttle import Cost

MAX_DETAIL = 300
_TOKEN = re.compile(r"shp[a-z]{2}_\w+|eyJ[\w.-]+")


class ShopifyError(Exception):
    """`status` is 0 when no answer came, `document` what Shopify said, if it was JSON. The text
    holds no token, and of a document its messages at most."""

    retryable = False

    def __init__(
        self,
        detail: str,
        *,
        shop: str,
        status: int = 0,
        request_id: str | None = None,
        document: Any = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.detail = _TOKEN.sub("****", detail)[:MAX_DETAIL]
        super().__init__(f"{shop}: {self.detail}")
        self.shop = shop
        self.status = status
        self.request_id = request_id
        self.document = document
        self.retry_after_s = retry_after_s


class AuthError(ShopifyError):
    pass


class ReauthRequired(AuthError):
    """`authorize_url`: where the merchant does it, when that is known."""

    def __init__(self, detail: str, *, shop: str, authorize_url: str | None = None) -> None:
        super().__init__(detail, shop=shop)
        self.authorize_url = authorize_url


class TokenRefused(AuthError):
    pass


class ScopeDenied(AuthError):
    pass


class ShopUnavailable(ShopifyError):
    pass


class Throttled(ShopifyError):
    """`cost` is known when it was a query that Shopify counted."""

    retryable = True

    def __init__(self, detail: str, *, cost: Cost | None = None, **known: Any) -> None:
        super().__init__(detail, **known)
        self.cost = cost


class QueryTooExpensive(ShopifyError):
    pass


class GraphQLErrors(ShopifyError):
    """`errors` as Shopify gave them."""

    def __init__(self, errors: Sequence[Mapping[str, Any]], **known: Any) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(one.get("message")) for one in self.errors), **known)


class UserErrors(ShopifyError):
    """`errors`: `{field, message, code?}`."""

    def __init__(self, errors: Sequence[Mapping[str, Any]], **known: Any) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(one.get("message")) for one in self.errors), **known)


class BulkFailed(ShopifyError):
    """`state` is FAILED, CANCELED or EXPIRED, `code` Shopify's reason. `partial_url`: what there
    was until then."""

    def __init__(
        self, detail: str, *, state: str, code: str | None, partial_url: str | None, shop: str
    ) -> None:
        super().__init__(detail, shop=shop)
        self.state = state
        self.code = code
        self.partial_url = partial_url


class Refused(ShopifyError):
    pass


class OutcomeUnknown(ShopifyError):
    pass


class UpstreamError(ShopifyError):
    retryable = True


class NetworkError(UpstreamError):
    pass


class TokenUnavailable(ShopifyError):
    retryable = True


class DeadlineExceeded(ShopifyError):
    retryable = True
