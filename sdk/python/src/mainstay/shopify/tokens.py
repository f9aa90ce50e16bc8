"""With which token a shop is called.

`KeptTokens` asks a deployment, whose session-service renews them; `FixedToken` is one of your own.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

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
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def token(self, shop: str) -> Token:
        return await self._one(shop, rejected=None)

    async def rejected(self, shop: str, token: Token) -> Token:
        return await self._one(shop, rejected=token)

    async def _one(self, shop: str, *, rejected: Token | None) -> Token:
        """Of many who ask for one shop at once one asks the deployment."""
        async with self._locks.setdefault(shop, asyncio.Lock()):
            until, known = self._known.pop(shop, (0.0, Token("")))
            is_newer = rejected is None or known.version > rejected.version
            if is_newer and time.monotonic() < until:
                self._known[shop] = (until, known)
                return known
            try:
                if rejected is None:
                    told = await self._client.shop_token(shop)
                else:
                    told = await self._client.reject_token(shop, rejected.version)
            except answers.ApiError as error:
                raise _told(shop, error) from error
            return self._remember(shop, told)

    def _remember(self, shop: str, told: ShopToken) -> Token:
        token = Token(told.access_token, told.version)
        lives_s = self._remembered_s
        if told.expires is not None:
            lives_s = min(lives_s, told.expires / 1000 - time.time())
        self._known[shop] = (time.monotonic() + lives_s, token)
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
