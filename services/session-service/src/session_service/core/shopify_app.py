"""The app at Shopify, as Shopify knows it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ShopifyApp:
    """`secrets`: the one of today, then the one before while it is being rotated. `scopes`: what
    the app asks for, by comma. `url`: its public address, where the gateway answers."""

    key: str
    secrets: tuple[str, ...] = field(repr=False)
    scopes: str
    url: str | None
