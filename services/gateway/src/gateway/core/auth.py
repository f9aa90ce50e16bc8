"""Authorizing browsers: the app that they are authorized for, and the two pages that it needs
inside Shopify's admin.

Both run in a frame of that admin and in nobody else's. Shopify's App Bridge does the work, from
Shopify's own address: Shopify allows it from nowhere else.
"""

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from typing import Protocol
from urllib.parse import urlencode

from chassis.kernel import errors
from chassis.kernel.shopify import Shops, is_path
from contracts import sessions

PATH = "/auth"
CDN = "https://cdn.shopify.com"
APP_BRIDGE = f"{CDN}/shopifycloud/app-bridge.js"
ADMIN = "https://admin.shopify.com"
LEAVE = 'open(document.links[0].href, "_top")'


class Authorizations(Protocol):
    """Raises what their owner refuses, Unavailable while it is away."""

    async def begin(self, asked: sessions.OAuthBegin) -> sessions.OAuthBegun: ...

    async def complete(self, asked: sessions.OAuthComplete) -> sessions.OAuthCompleted: ...


@dataclass(frozen=True, slots=True)
class Page:
    html: str
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthApp:
    """`key`: the app's client id. `url`: where browsers find this gateway."""

    key: str
    url: str
    shops: Shops

    def leaving(self, asked: sessions.OAuthBegin) -> Page:
        """Begins anew in the whole window, for Shopify asks for consent in no frame."""
        said = asked.model_dump(mode="json", exclude_none=True)
        address = f"{self.url}{PATH}?{urlencode(said)}"
        link = f'<p><a href="{escape(address)}" target="_top">Continue to {asked.shop}</a></p>'
        return self._page(f"{link}<script>{LEAVE}</script>", asked.shop)

    def bounce(self, shop: str, reload: str) -> Page:
        """App Bridge fetches a session token and takes it to the address that `shopify-reload`, in
        the page's own, names; raises Invalid for one that is not the app's."""
        if not is_path(reload.removeprefix(self.url)):
            detail = "must be an address of the app"
            raise errors.Invalid(
                f"/shopify-reload: {detail}", flaws=[errors.Flaw("/shopify-reload", detail)]
            )
        return self._page("", shop)

    def _page(self, body: str, shop: str) -> Page:
        """`shop` is one that `Shops` has passed, so it stands as it is."""
        script = base64.b64encode(hashlib.sha256(LEAVE.encode()).digest()).decode()
        return Page(
            html=(
                f'<!doctype html><meta charset="utf-8"><title>{shop}</title>'
                f'<meta name="shopify-api-key" content="{escape(self.key)}">'
                f'<script src="{APP_BRIDGE}"></script>{body}'
            ),
            policy=(
                f"script-src {CDN} 'sha256-{script}'; object-src 'none'; base-uri 'none'"
                f"; form-action 'none'; frame-ancestors https://{shop} {ADMIN};"
            ),
        )
