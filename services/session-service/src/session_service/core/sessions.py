"""Sessions of stores: put, read, delete; and the token to call a store with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from session_service.core import record
from session_service.core.copying import Copying
from session_service.core.ports import Gone, SessionStore
from session_service.core.reading import Reader
from session_service.core.recent import Recent
from session_service.core.record import ShopifySession
from session_service.core.sealing import Vault

# One writer at a time gets through; this many in a row being overtaken is no accident.
MAX_TRIES = 60


class Backend(StrEnum):
    POSTGRES = "postgres"
    REDIS = "redis"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the caller may see. `shop` None: every shop's."""

    shop: str | None
    sees_tokens: bool

    def require(self, shop: str) -> None:
        if self.shop is not None and self.shop != shop:
            raise errors.Denied("the key belongs to another shop", code="other_shop")

    def includes(self, shop: str) -> bool:
        return self.shop is None or self.shop == shop


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`stale_s`: age of the copy that answers because the record does not; None from the record."""

    session: ShopifySession
    backend: Backend
    stale_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """If-Match. `version` None: any, but one must be there."""

    version: int | None

    def check(self, old: ShopifySession | None) -> None:
        if old is None or self.version not in (None, old.version):
            raise errors.Outdated("the session has another version than If-Match names")


class Sessions:
    def __init__(
        self,
        *,
        store: SessionStore,
        reader: Reader,
        copies: Copying,
        recent: Recent,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self._store = store
        self._reader = reader
        self._copying = copies
        self._recent = recent
        self._vault = vault
        self._clock = clock

    async def put(
        self, document: Mapping[str, Any], *, access: Access, expected: Expectation | None
    ) -> int:
        """Replace the session; its version. What is there already is left as it is."""
        new = record.from_document(document)
        access.require(new.shop)
        for _ in range(MAX_TRIES):
            old = await self._present(new.id)
            if old is not None and not access.includes(old.shop):
                raise errors.Conflict("the id belongs to something else", code="id_taken")
            keeps_tokens = not access.sees_tokens or await self._is_retired(old, new)
            merged = record.succeed(old, new, keeps_tokens=keeps_tokens)
            if old is not None and record.is_same(old, merged):
                return old.version
            if expected is not None:
                expected.check(old)
            version = await self._write(old, merged)
            if version is not None:
                return version
        raise errors.Unavailable("too many writers of one session", code="overloaded")

    async def get(self, session_id: str, *, access: Access) -> Found:
        """Raises NotFound, also for another shop's."""
        found = await self._find(session_id)
        if found is None or not access.includes(found.session.shop):
            raise _not_found()
        return found

    async def of_shop(
        self, shop: str, *, access: Access, after: str | None, limit: int
    ) -> Sequence[ShopifySession]:
        access.require(shop)
        rows = await self._store.of_shop(shop, after=after, limit=limit)
        return [self._vault.open(row) for row in rows]

    async def delete(self, ids: Sequence[str], *, access: Access) -> int:
        """How many there were. Another shop's are not touched and not told of."""
        return await self.forget(await self._store.delete(ids, shop=access.shop))

    async def purge(self, shop: str, *, access: Access, before: datetime | None) -> int:
        """Every session of a shop, but for what was granted after `before`."""
        access.require(shop)
        return await self.forget(await self._store.delete_shop(shop, granted_by=before))

    async def of(self, shop: str, *, user_id: int | None, access: Access) -> Found:
        """The session whose token a shop is called with, whether it works or not."""
        access.require(shop)
        found = await self._find(record.id_for(shop, user_id=user_id))
        if found is not None and found.session.shop == shop:
            return found
        row = await self._store.newest_of(shop, user_id=user_id)
        if row is None:
            raise _not_found()
        return Found(session=self._vault.open(row), backend=Backend.POSTGRES)

    async def _present(self, session_id: str) -> ShopifySession | None:
        rows = await self._store.find([session_id])
        return self._vault.open(rows[0]) if rows else None

    async def _is_retired(self, old: ShopifySession | None, new: ShopifySession) -> bool:
        """Is its pair one that a grant of ours has replaced? Who puts it read it before that."""
        if old is None or new.tokens.is_empty or old.tokens.same_pair(new.tokens):
            return False
        return self._vault.is_among(
            await self._store.retired(old.id), replace(new, id=old.id, shop=old.shop)
        )

    async def _write(self, old: ShopifySession | None, new: ShopifySession) -> int | None:
        sealed = self._vault.seal(new)
        has_new_pair = old is None or not old.tokens.same_pair(new.tokens)
        version = await self._store.put(
            sealed,
            over=old.version if old is not None else None,
            ends_ms=new.ends_ms,
            key_id=self._vault.key_id,
            has_new_pair=has_new_pair,
        )
        if version is not None:
            gen = version if old is None or has_new_pair else old.gen
            self._recent.keep(replace(new, gen=gen, version=version), as_of=self._clock.monotonic())
            await self._copying.changed(replace(sealed, gen=gen, version=version))
        return version

    async def forget(self, gone: Sequence[Gone]) -> int:
        """Memory and copies answer with these no more. How many they are."""
        for each in gone:
            self._recent.forget(each.id, each.version)
        await self._copying.forget(gone)
        return len(gone)

    async def _find(self, session_id: str) -> Found | None:
        held = self._recent.get(session_id)
        if held is not None:
            return Found(session=held, backend=Backend.MEMORY)
        try:
            row, as_of = await self._reader.read(session_id)
        except errors.Unavailable:
            copy = await self._copying.find(session_id)
            if copy is None:
                raise
            return Found(session=copy[0], backend=Backend.REDIS, stale_s=copy[1])
        if row is None:
            return None
        session = self._vault.open(row)
        self._recent.keep(session, as_of=as_of)
        return Found(session=session, backend=Backend.POSTGRES)


def _not_found() -> errors.NotFound:
    return errors.NotFound("there is no such session", code="session_not_found")
