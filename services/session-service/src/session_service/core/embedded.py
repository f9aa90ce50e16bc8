"""Apps inside Shopify's admin: whose session token is it, and an access token in return for it."""

from chassis.kernel.clock import Clock
from chassis.kernel.shopify import Shops
from contracts.sessions import SessionTokenClaims
from session_service.core import id_tokens, record
from session_service.core.granting import Grants
from session_service.core.grants import Exchange
from session_service.core.record import ShopifySession
from session_service.core.sessions import Access
from session_service.core.shopify_app import ShopifyApp


class Embedded:
    def __init__(self, *, app: ShopifyApp, shops: Shops, grants: Grants, clock: Clock) -> None:
        self._app = app
        self._shops = shops
        self._grants = grants
        self._clock = clock

    def verify(self, session_token: str, *, access: Access) -> SessionTokenClaims:
        """Raises InvalidSessionToken; Denied for a key of another shop."""
        claims = id_tokens.verify(
            session_token,
            secrets=self._app.secrets,
            audience=self._app.key,
            shops=self._shops,
            now_s=self._clock.now().timestamp(),
        )
        access.require(claims.shop)
        return claims

    async def exchange(
        self, session_token: str, *, is_online: bool, is_forced: bool, access: Access
    ) -> ShopifySession:
        """One exchange at a time for a session, and none while there is a token that works: a new
        offline token would end the one that others use. What is raised: see Grants."""
        claims = self.verify(session_token, access=access)
        if is_online and claims.user_id is None:
            raise id_tokens.InvalidSessionToken("the session token names no user of the shop")
        user_id = claims.user_id if is_online else None
        grant = Exchange(session_token=session_token, is_online=is_online, is_forced=is_forced)
        return await self._grants.obtain(
            record.id_for(claims.shop, user_id=user_id), claims.shop, grant
        )
