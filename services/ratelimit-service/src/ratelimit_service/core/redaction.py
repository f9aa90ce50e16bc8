"""A shop that is to be forgotten: what was set for it, counted of it and learned of it.

Where it stands with its limits stays until it has flowed off: to forget that would be to grant it
again.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

from contracts.ratelimits import ListKind, ListPut
from ratelimit_service.core import lists
from ratelimit_service.core.configuration import Desk, Kind, Place, Setting

AUTHOR = "shop.redact"


class Files(Desk, Protocol):
    async def begin(self, event_id: UUID) -> bool:
        """False: this was done before."""
        ...

    async def places_of(self, shop: str, *, before: datetime) -> Sequence[Place]:
        """What was set for it by then and holds."""
        ...

    async def forget(self, shop: str, *, before: datetime) -> None:
        """What was counted and learned of it, and who changed what for it."""
        ...


class Store(Protocol):
    def forgetting(self) -> AbstractAsyncContextManager[Files]:
        """All of it, or nothing. Raises Unavailable."""
        ...


class Redaction:
    """`apply` puts a change in force here; other replicas read it within seconds."""

    def __init__(self, *, store: Store, apply: Callable[[Setting], None]) -> None:
        self._store = store
        self._apply = apply

    async def __call__(self, shop: str, *, before: datetime, event_id: UUID) -> None:
        """Twice is once."""
        async with self._store.forgetting() as files:
            if not await files.begin(event_id):
                return
            places = await files.places_of(shop, before=before)
            changed = [await files.drop(place, author=AUTHOR) for place in places]
            for kind in ListKind:
                changed += await _unlist(files, Place(Kind.LIST, "", kind), shop)
            await files.forget(shop, before=before)
        for each in changed:
            self._apply(each)


async def _unlist(files: Files, place: Place, shop: str) -> list[Setting]:
    found = await files.find(place)
    if found is None or not isinstance(found.said, ListPut):
        return []
    kept = [entry for entry in found.said.items if lists.named(entry.subject) != shop]
    if len(kept) == len(found.said.items):
        return []
    return [await files.put(place, ListPut(items=kept), author=AUTHOR)]
