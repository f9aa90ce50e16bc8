"""The token to call a store with: one that works, renewed where it must be.

A token that lives is handed out also when its renewal fails or is slow. Without the record nothing
is renewed, because what came of it could not be kept.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from chassis.kernel.shopify import Shops, not_configured
from session_service.core import copying, record, verdicts
from session_service.core.granting import USABLE_MS, Grants
from session_service.core.grants import (
    ClientCredentials,
    Grant,
    Migrate,
    Refresh,
    Rejected,
    can_renew,
)
from session_service.core.ports import Endless, GrantStore
from session_service.core.record import ShopifySession, Status
from session_service.core.sessions import Access, Backend, Found, Sessions
from session_service.core.used import Used

# Who holds a token that works need not wait long for the next.
PATIENCE_S = 2.0
MIGRATED_AT_ONCE = 4
MIGRATION_CHUNK = 100
AGAIN_SOON, AGAIN_LATE = timedelta(minutes=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Migrations:
    migrated: int
    failed: int
    left: int


class Refreshing:
    """`grants` None: no app is configured. `app_url`: where its `/auth` is."""

    def __init__(
        self,
        *,
        sessions: Sessions,
        grants: Grants | None,
        store: GrantStore,
        shops: Shops,
        used: Used,
        clock: Clock,
        app_url: str | None,
    ) -> None:
        self._sessions = sessions
        self._grants = grants
        self._store = store
        self._shops = shops
        self._used = used
        self._clock = clock
        self._app_url = app_url

    async def token(
        self, shop: str, *, user_id: int | None, min_ttl_s: int, access: Access
    ) -> Found:
        """A session whose access token works now, for `min_ttl_s` where that can be had."""
        with self._pointing(shop):
            found = await self._sessions.of(shop, user_id=user_id, access=access)
            session, now_ms = found.session, copying.now_ms(self._clock)
            self._used.now(session)
            has_enough = not session.tokens.has_ended(now_ms + min_ttl_s * 1000)
            if has_enough or session.status is not Status.ACTIVE or found.stale_s is not None:
                return self._working(found)
            return await self._renewed(found, min_ttl_ms=min_ttl_s * 1000)

    async def reject(
        self, shop: str, *, user_id: int | None, version: int, access: Access
    ) -> Found:
        """Another token than that of `version`, which Shopify has refused; or the same, when it
        was renewed a moment ago already."""
        with self._pointing(shop):
            found = await self._sessions.of(shop, user_id=user_id, access=access)
            session = await self._obtain(found.session, Rejected(version=version))
            return self._working(Found(session=session, backend=Backend.POSTGRES))

    async def by_client_credentials(self, shop: str, *, access: Access) -> ShopifySession:
        access.require(shop)
        with self._pointing(shop):
            named = self._shops.named(shop)
            session_id = record.id_for(named, user_id=None)
            return await self._engine().obtain(session_id, named, ClientCredentials())

    async def migrate(self, shop: str, *, access: Access) -> ShopifySession:
        """A pair for a token without an end; a pair that is there already stays."""
        with self._pointing(shop):
            found = await self._sessions.of(shop, user_id=None, access=access)
            session = await self._obtain(found.session, Migrate())
            return self._working(Found(session=session, backend=Backend.POSTGRES)).session

    async def migrate_all(self, *, within_s: float) -> Migrations:
        """As many as there is time for; those that failed come last the next time."""
        self._engine()
        rows = await self._store.endless(now=self._clock.now(), limit=MIGRATION_CHUNK)
        turn, done = asyncio.Semaphore(MIGRATED_AT_ONCE), list[bool]()

        async def one(row: Endless) -> None:
            async with turn:
                done.append(await self._migrate_one(row))

        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(one(row) for row in rows))
        failed = done.count(False)
        left = await self._store.count_endless()
        return Migrations(done.count(True), failed, max(0, left - failed))

    async def _migrate_one(self, row: Endless) -> bool:
        try:
            await self._engine().obtain(row.id, row.shop, Migrate())
        except errors.Fault as fault:
            again = self._clock.now() + (AGAIN_SOON if fault.retryable else AGAIN_LATE)
            await self._store.postpone(row.id, until=again)
            return False
        return True

    async def _renewed(self, found: Found, *, min_ttl_ms: int) -> Found:
        session = found.session
        lives = not session.tokens.has_ended(copying.now_ms(self._clock) + USABLE_MS)
        has_no_need = self._grants is None and (lives or not session.tokens.refresh)
        if has_no_need or not can_renew(session):
            return self._working(found)
        try:
            async with asyncio.timeout(PATIENCE_S if lives else None):
                fresh = await self._obtain(session, Refresh(min_ttl_ms=min_ttl_ms))
        except (errors.Unavailable, TimeoutError):
            if lives:
                return self._working(found)
            raise
        self._used.now(fresh)
        return self._working(Found(session=fresh, backend=Backend.POSTGRES))

    async def _obtain(self, session: ShopifySession, grant: Grant) -> ShopifySession:
        engine = self._engine()
        return await engine.obtain(session.id, self._shops.named(session.shop), grant)

    def _engine(self) -> Grants:
        if self._grants is None:
            raise not_configured()
        return self._grants

    def _working(self, found: Found) -> Found:
        session = found.session
        if session.status is not Status.ACTIVE or not session.tokens.access:
            raise verdicts.reauth(
                "there is no access token for this shop that works", reason=session.status
            )
        if session.tokens.has_ended(copying.now_ms(self._clock)):
            raise verdicts.reauth(
                "the access token has expired, and nothing can renew it", reason="expired"
            )
        return found

    @contextmanager
    def _pointing(self, shop: str) -> Iterator[None]:
        """Who must authorize again is told where."""
        try:
            yield
        except errors.Conflict as fault:
            if fault.code == "reauth_required" and self._app_url is not None:
                fault.members["authorize_url"] = f"{self._app_url}/auth?shop={shop}"
            raise
