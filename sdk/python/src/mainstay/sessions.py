"""Tokens of shops, as a deployment keeps them: part of `Client`. The key needs `tokens:read`."""

from pydantic import BaseModel, ConfigDict, Field

from mainstay.transport import Transport, step


class ShopToken(BaseModel):
    """`expires` is in epoch milliseconds, None: it does not end."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    access_token: str = Field(repr=False)
    scope: str | None = None
    expires: int | None = None
    version: int


class Sessions:
    _transport: Transport

    async def shop_token(self, shop: str, *, min_ttl: int | None = None) -> ShopToken:
        """The offline token of a shop, renewed when it lives for less than `min_ttl` seconds.
        Raises `Conflict` (`reauth_required`, with `members["authorize_url"]`) when none works any
        more."""
        query = {"min_ttl": min_ttl}
        answered = await self._transport.call("GET", f"/v1/shops/{step(shop)}/token", query=query)
        return answered.read(ShopToken)

    async def reject_token(self, shop: str, version: int) -> ShopToken:
        """Shopify answered 401 to the token of this version: the one in its place."""
        body = {"version": version}
        path = f"/v1/shops/{step(shop)}/token/reject"
        return (await self._transport.call("POST", path, body=body)).read(ShopToken)
