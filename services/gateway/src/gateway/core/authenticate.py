"""From a presented key to an identity.

Failures are limited per address before anything is asked or hashed, but only for keys that we do
not know: a valid key passes, whatever its neighbours behind the same address do.
"""

import hmac

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from gateway.core import gcra, hops, keys, ports

FAILURES = gcra.pace(per_s=10 / 60, burst=10)


class Authenticate:
    def __init__(
        self,
        *,
        table: keys.KeyTable,
        store: ports.KeyStore,
        failures: gcra.Buckets,
        admin_key: str | None,
        clock: Clock,
    ) -> None:
        self._table = table
        self._store = store
        self._failures = failures
        self._admin_key = admin_key.encode() if admin_key else None
        self._clock = clock

    async def __call__(self, presented: str, address: str) -> keys.Identity:
        """Raises Unauthenticated, Limited, or Unavailable for a key too new for our copy."""
        if self._admin_key and hmac.compare_digest(
            presented.encode("utf-8", "surrogateescape"), self._admin_key
        ):
            return keys.Identity(keys.BOOTSTRAP_ID, None, frozenset({keys.ADMIN_SCOPE}))
        bucket = ("auth", hops.network(address))
        key = await self._find(presented, bucket)
        if key is None or not self._fits(key, presented):
            self._count(bucket)
            raise errors.Unauthenticated("this key is not known, or has expired")
        return keys.Identity(key.id, key.shop, key.scopes)

    async def _find(self, presented: str, bucket: gcra.Key) -> keys.ApiKey | None:
        key_id = keys.id_of(presented)
        known = self._table.get(key_id) if key_id else None
        if known is not None:
            return known
        self._refuse_when_spent(bucket)
        if key_id is None:
            return None
        found = await self._store.find(key_id)
        if found is not None:
            self._table.add(found)
        return found

    def _fits(self, key: keys.ApiKey, presented: str) -> bool:
        if not hmac.compare_digest(key.digest, keys.digest(presented)):
            return False
        return key.expires_at is None or self._clock.now() < key.expires_at

    def _count(self, bucket: gcra.Key) -> None:
        self._refuse_when_spent(bucket)
        self._failures.take(bucket, FAILURES)

    def _refuse_when_spent(self, bucket: gcra.Key) -> None:
        level = self._failures.peek(bucket, FAILURES)
        if not level.allowed:
            raise errors.Limited(
                "too many failed authentications from this address",
                code="too_many_failures",
                retry_after_s=level.retry_after_s,
            )
