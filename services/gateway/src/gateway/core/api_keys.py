"""Making, listing and withdrawing API keys. The key itself exists in the answer alone."""

from dataclasses import dataclass
from datetime import datetime

from chassis.kernel import canonical, errors
from chassis.kernel.clock import Clock
from gateway.core import keys, ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    name: str
    scopes: frozenset[str]
    shop: str | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Issued:
    """`secret` is None for a repeat: it was shown once."""

    key: keys.ApiKey
    secret: str | None


class ApiKeys:
    def __init__(self, *, store: ports.KeyStore, table: keys.KeyTable, clock: Clock) -> None:
        self._store = store
        self._table = table
        self._clock = clock

    async def create(self, wanted: Wanted, *, by: keys.Identity, repeat: str | None) -> Issued:
        now = self._clock.now()
        shop = _shop_for(wanted.shop, by)
        if wanted.expires_at is not None and wanted.expires_at <= now:
            flaw = errors.Flaw("/expires_at", "lies in the past")
            raise errors.Invalid("/expires_at: lies in the past", flaws=[flaw])
        identifier, secret = keys.mint()
        key = keys.ApiKey(
            id=identifier,
            name=wanted.name,
            digest=keys.digest(secret),
            scopes=wanted.scopes,
            shop=shop,
            expires_at=wanted.expires_at,
            created_at=now,
        )
        fingerprint = canonical.fingerprint(
            [wanted.name, sorted(wanted.scopes), shop, str(wanted.expires_at)]
        )
        new = ports.NewKey(
            key=key, repeat=repeat, repeat_scope=by.shop or "", fingerprint=fingerprint
        )
        kept, kept_print = await self._store.create(new)
        if kept_print != fingerprint:
            raise errors.Invalid(
                "this Idempotency-Key was used with another body", code="idempotency_key_reused"
            )
        self._table.add(kept)
        return Issued(kept, secret if kept.id == identifier else None)

    async def list(self, *, by: keys.Identity) -> list[keys.ApiKey]:
        return [key for key in await self._store.read() if by.shop in (None, key.shop)]

    async def delete(self, key_id: str, *, by: keys.Identity) -> None:
        if not await self._store.delete(key_id, shop=by.shop):
            raise errors.NotFound("there is no key with this id")
        self._table.remove(key_id)


def _shop_for(wanted: str | None, by: keys.Identity) -> str | None:
    if by.shop is None:
        return wanted
    if wanted not in (None, by.shop):
        raise errors.Denied("this key belongs to another shop", code="other_shop")
    return by.shop
