"""What Shopify says of a shop itself: it removed the app, changed its scopes, is to be forgotten.

All of it may be late, repeated and out of order: each changes only what was granted by the moment
that it speaks of, so that a shop which has installed the app again keeps what it was given since.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

from chassis.kernel.clock import Clock
from contracts.events import SHOP_REDACT, Envelope, ShopRedact
from session_service.core.ports import Gone, InstallationStore

SOURCE = "session-service"


class Installations:
    """`forget` is told of the sessions that memory and copies must not answer with any more."""

    def __init__(
        self,
        *,
        store: InstallationStore,
        forget: Callable[[Sequence[Gone]], Awaitable[int]],
        clock: Clock,
    ) -> None:
        self._store = store
        self._forget = forget
        self._clock = clock

    async def uninstalled(self, shop: str, *, before: datetime) -> int:
        """How many sessions went. Their tokens are dead already: nobody asks Shopify about them."""
        return await self._forget(await self._store.uninstalled(shop, before=before))

    async def scopes_updated(self, shop: str, *, current: Sequence[str], at: datetime) -> int:
        """How many offline sessions have other scopes now."""
        changed = await self._store.scopes_updated(shop, scope=",".join(current), at=at)
        return await self._forget(changed)

    async def redacted(self, shop: str, *, before: datetime, event_id: UUID) -> int:
        """How many sessions went, with the history of the shop. Every service is told."""
        event = Envelope(
            id=event_id,
            source=SOURCE,
            type=SHOP_REDACT,
            time=self._clock.now(),
            subject=shop,
            shop=shop,
            data=ShopRedact(shop=shop, before=before).model_dump(mode="json"),
        )
        gone = await self._store.redacted(
            shop, before=before, event_id=event_id, event=event.model_dump(mode="json")
        )
        return await self._forget(gone)
