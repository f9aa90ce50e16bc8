"""OAuth by redirects: a browser is sent to Shopify, comes back with a code, and gets no token.

What comes back counts once, for the shop it was begun for, in the browser it was begun in. The
state is in the cookie's name, so that two tabs do not disturb each other; the cookie's value is
known to that browser alone. Should we die halfway, the browser may come again with the same code.
"""

import hashlib
import re
import secrets
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from chassis.kernel.shopify import Shops, is_path
from contracts.sessions import TokenMode
from session_service.core import hmacs, hosts, record
from session_service.core.granting import Grants
from session_service.core.grants import Code
from session_service.core.ports import Authorization, StateStore
from session_service.core.record import ShopifySession
from session_service.core.sessions import Access
from session_service.core.shopify_app import ShopifyApp

# A merchant may read the consent page for as long as this.
LIFE_S = 600.0
# Should it take longer, the lease of the grant still keeps two from using the code at once.
HOLD_S = 10.0
BEGIN, CALLBACK = "/auth", "/auth/callback"
COOKIE = "mainstay_oauth_"
_STATE = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Begun:
    authorize_url: str = field(repr=False)
    cookie: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Completed:
    session: ShopifySession
    redirect_to: str
    clear_cookie: str = field(repr=False)


class OAuth:
    def __init__(
        self, *, app: ShopifyApp, shops: Shops, states: StateStore, grants: Grants, clock: Clock
    ) -> None:
        self._app = app
        self._shops = shops
        self._states = states
        self._grants = grants
        self._clock = clock

    async def begin(
        self, shop: str, *, is_online: bool, return_to: str | None, host: str | None, access: Access
    ) -> Begun:
        """Raises Invalid: no shop, no path of the app, no admin of Shopify."""
        named = self._shops.named(shop)
        access.require(named)
        if return_to is not None and not is_path(return_to):
            raise _flawed("/return_to", "must be a path of the app, such as /welcome?step=1")
        if host is not None:
            hosts.admin_at(host, shop=named, shops=self._shops)
        begun = Authorization(shop=named, is_online=is_online, return_to=return_to, host=host)
        state, browser = secrets.token_hex(32), secrets.token_urlsafe(32)
        await self._states.keep(_digest(state), _digest(browser), begun, life_s=LIFE_S)
        return Begun(self._authorize_url(begun, state), self._cookie(state, browser, LIFE_S))

    async def complete(self, *, query: str, cookie: str, access: Access) -> Completed:
        """Raises InvalidHmac, Invalid, Denied `state_mismatch`; Unavailable leaves it to be done
        again."""
        received = hmacs.parse(query)
        received.require_signed(self._app.secrets, now_s=self._clock.now().timestamp())
        shop = self._shops.named(received.require("shop"))
        access.require(shop)
        code, state = received.require("code"), received.require("state")
        owner = uuid.uuid4()
        begun = await self._claim(state, cookie, shop=shop, owner=owner)
        grant = Code(code=code, state=state, is_online=begun.is_online)
        session = await self._granted(grant, begun, owner=owner)
        return Completed(
            session, self._redirect(begun, received.get("host")), self._cookie(state, "", 0)
        )

    async def _claim(
        self, state: str, cookie: str, *, shop: str, owner: uuid.UUID
    ) -> Authorization:
        browser = _cookie_of(cookie, COOKIE + state) if _STATE.fullmatch(state) else None
        if browser is None:
            raise _mismatch()
        claimed = await self._states.claim(
            _digest(state), _digest(browser), shop=shop, owner=owner, hold_s=HOLD_S
        )
        if claimed is None:
            raise _mismatch()
        begun, is_ours = claimed
        if not is_ours:
            raise errors.Unavailable(
                "this authorization is being ended already", code="refresh_in_progress"
            )
        return begun

    async def _granted(
        self, grant: Code, begun: Authorization, *, owner: uuid.UUID
    ) -> ShopifySession:
        state = _digest(grant.state)
        try:
            session = await self._grants.obtain(
                record.id_for(begun.shop, user_id=None), begun.shop, grant
            )
        except errors.Fault as fault:
            if fault.code == "reauth_required":
                fault.members["authorize_url"] = self._again(begun)
            with suppress(errors.Unavailable):
                await (self._states.release if fault.retryable else self._states.finish)(
                    state, owner=owner
                )
            raise
        # The session is stored: that the state is, for a while, still there does no harm.
        with suppress(errors.Unavailable):
            await self._states.finish(state, owner=owner)
        return session

    def _authorize_url(self, begun: Authorization, state: str) -> str:
        asked = {
            "client_id": self._app.key,
            "scope": self._app.scopes,
            "redirect_uri": f"{self._app.url}{CALLBACK}",
            "state": state,
            **({"grant_options[]": "per-user"} if begun.is_online else {}),
        }
        origin = self._shops.origin(begun.shop)
        return f"{origin}/admin/oauth/authorize?{urlencode(asked, quote_via=quote)}"

    def _again(self, begun: Authorization) -> str:
        """Where the same begins anew: a code that was used up by one of us who died is no more."""
        said = {
            "shop": begun.shop,
            "mode": TokenMode.ONLINE if begun.is_online else TokenMode.OFFLINE,
            "return_to": begun.return_to,
            "host": begun.host,
        }
        given = {name: value for name, value in said.items() if value is not None}
        return f"{self._app.url}{BEGIN}?{urlencode(given)}"

    def _cookie(self, state: str, value: str, life_s: float) -> str:
        """Lax, because the browser comes back from another site; and to the callback alone."""
        address = urlsplit(f"{self._app.url}{CALLBACK}")
        secure = "; Secure" if address.scheme == "https" else ""
        return (
            f"{COOKIE}{state}={value}; Max-Age={life_s:.0f}; Path={address.path}"
            f"; HttpOnly; SameSite=Lax{secure}"
        )

    def _redirect(self, begun: Authorization, host: str | None) -> str:
        if begun.return_to is not None:
            return f"{self._app.url}{begun.return_to}"
        return f"{self._admin(begun, host or begun.host)}/apps/{quote(self._app.key, safe='')}"

    def _admin(self, begun: Authorization, host: str | None) -> str:
        if host is not None:
            with suppress(errors.Invalid):
                return hosts.admin_at(host, shop=begun.shop, shops=self._shops)
        return hosts.admin_of(begun.shop)


def _cookie_of(header: str, name: str) -> str | None:
    for part in header.split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value
    return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _mismatch() -> errors.Denied:
    return errors.Denied(
        "this was not begun by this browser for this shop, or it is over", code="state_mismatch"
    )


def _flawed(pointer: str, detail: str) -> errors.Invalid:
    return errors.Invalid(f"{pointer}: {detail}", flaws=[errors.Flaw(pointer, detail)])
