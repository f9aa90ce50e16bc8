"""The policies in force, as this process knows them: replaced as a whole, never asked for."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from chassis.kernel import errors
from contracts.ratelimits import PolicyPut
from ratelimit_service.core import policy
from ratelimit_service.core.policy import Policy


class PolicyTable:
    """Starts with the seeds; `loaded` once the database's word is in."""

    def __init__(self, seeds: Iterable[Policy] = ()) -> None:
        self._policies = {each.id: each for each in seeds}
        self.loaded = False

    def find(self, identifier: str) -> Policy | None:
        return self._policies.get(identifier)

    def all(self) -> Sequence[Policy]:
        return list(self._policies.values())

    def replace(self, policies: Iterable[Policy]) -> None:
        self._policies = {each.id: each for each in policies}
        self.loaded = True

    def put(self, changed: Policy) -> None:
        known = self._policies.get(changed.id)
        if known is None or known.version < changed.version:
            self._policies = {**self._policies, changed.id: changed}

    def drop(self, identifier: str) -> None:
        self._policies = {key: each for key, each in self._policies.items() if key != identifier}


class PolicyStore(Protocol):
    """All raise Unavailable."""

    async def all(self) -> Sequence[Policy]: ...
    async def page(self, *, after: str, limit: int) -> Sequence[Policy]: ...
    async def find(self, identifier: str) -> Policy | None: ...
    async def put(self, identifier: str, spec: PolicyPut) -> Policy:
        """The policy now in force; an equal spec is no change and no new version."""
        ...

    async def delete(self, identifier: str) -> bool: ...


class Policies:
    """Reading and changing them. A change is seen at once here, elsewhere within seconds."""

    def __init__(self, *, store: PolicyStore, table: PolicyTable) -> None:
        self._store = store
        self._table = table

    async def page(self, *, after: str, limit: int) -> Sequence[Policy]:
        return await self._store.page(after=after, limit=limit)

    async def get(self, identifier: str) -> Policy:
        found = await self._store.find(identifier)
        if found is None:
            raise _unknown(identifier)
        return found

    async def put(self, identifier: str, spec: PolicyPut) -> Policy:
        """Raises Invalid for a spec that cannot be counted; then nothing has changed."""
        policy.pace(spec)
        changed = await self._store.put(identifier, spec)
        self._table.put(changed)
        return changed

    async def delete(self, identifier: str) -> None:
        if not await self._store.delete(identifier):
            raise _unknown(identifier)
        self._table.drop(identifier)

    @property
    def count(self) -> int:
        """In force here."""
        return len(self._table.all())

    async def refresh(self) -> None:
        self._table.replace(await self._store.all())


def _unknown(identifier: str) -> errors.NotFound:
    return errors.NotFound(f"there is no policy {identifier}", code="unknown_policy")
