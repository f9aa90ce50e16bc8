"""With which token a shop is called.

`KeptTokens` asks a deployment, whose session-service renews them; `FixedToken` is one of your own.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from mainstay import errors as answers
from mainstay.client import Client
from mainstay.sessions import ShopToken
from mainstay.shopify import errors

REMEMBERED, REMEMBERED_S = 10_000, 30.0


@dataclass(frozen=True, slots=True)
class Token:
    """`version` tells it from those before and after it."""

    value: str = field(repr=False)
    version: int = 0


class Tokens(Protocol):
    """Both raise `errors.ShopifyError`: `ReauthRequired`, `ShopUnavailable`, `TokenUnavailable`."""

    async def token(self, shop: str) -> Token: ...

    async def rejected(self, shop: str, token: Token) -> Token:
        """Shopify refused this one: another, or TokenRefused when there is none."""


class FixedToken:
    """Of one shop, not renewed."""

    def __init__(self, value: str) -> None:
        self._token = Token(value)

    async def token(self, shop: str) -> Token:
        return self._token

    async def rejected(self, shop: str, token: Token) -> Token:
        raise errors.TokenRefused("the token was refused", shop=shop, status=401)


class KeptTokens:
    """Offline tokens that a deployment keeps; the client's key needs `tokens:read`. One is
    remembered for `remembered_s`."""

    def __init__(self, client: Client, *, remembered_s: float = REMEMBERED_S) -> None:
        self._client = client
        self._remembered_s = remembered_s
        self._known: OrderedDict[str, tuple[float, Token]] = OrderedDict()

    async def token(self, shop: str) -> Token:
        until, token = self._known.get(shop, (0.0, None))
        if token is not None and time.monotonic() < until:
            return token
        try:
            return self._remember(shop, await self._client.shop_token(shop))
        except answers.ApiError as error:
            raise _told(shop, error) from error

    async def rejected(self, shop: str, token: Token) -> Token:
        known = self._known.get(shop)
        if known is not None and known[1].version != token.version:
            return known[1]
        self._known.pop(shop, None)
        try:
            renewed = await self._client.reject_token(shop, token.version)
        except answers.ApiError as error:
            raise _told(shop, error) from error
        return self._remember(shop, renewed)

    def _remember(self, shop: str, told: ShopToken) -> Token:
        token = Token(told.access_token, told.version)
        lives_s = self._remembered_s
        if told.expires is not None:
            lives_s = min(lives_s, told.expires / 1000 - time.time())
        self._known[shop] = (time.monotonic() + lives_s, token)
        self._known.move_to_end(shop)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return token


def _told(shop: str, error: answers.ApiError) -> Exception:
    """A wrong key is not the shop's matter, and stays what it is."""
    if error.code in ("reauth_required", "session_not_found"):
        url = error.members.get("authorize_url")
        return errors.ReauthRequired(
            error.detail, shop=shop, authorize_url=str(url) if url else None
        )
    if error.code in ("shop_unavailable", "invalid_shop"):
        return errors.ShopUnavailable(error.detail, shop=shop)
    if isinstance(error, answers.Unavailable | answers.Limited):
        return errors.TokenUnavailable(
            error.detail, shop=shop, status=error.status, retry_after_s=error.retry_after_s
        )
    return error
