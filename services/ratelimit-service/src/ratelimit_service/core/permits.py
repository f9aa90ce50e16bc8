"""So many at once: a permit for each that runs, until it ends or its time is over."""

from typing import Protocol
from uuid import UUID

from chassis.kernel import errors, ids
from chassis.kernel.values import value
from contracts.ratelimits import ListKind, PermitPost, Subject
from ratelimit_service.core import subject
from ratelimit_service.core.adjustments import invalid, unknown
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.subject import Owner


@value
class Place:
    """What is asked for, and of how many."""

    policy: str
    key: str
    weight: int
    limit: int


@value
class Held:
    """`expires_ms` None: not given; then `room_in_ms` is when so much runs out by itself. `others`:
    what is taken beside this one. `is_taken`: the id is that of something else."""

    expires_ms: int | None
    others: int
    room_in_ms: int | None
    is_taken: bool


@value
class Found:
    key: str
    policy: str


@value
class Renewed:
    key: str
    expires_ms: int
    in_use: int


class PermitStore(Protocol):
    """All raise Unavailable."""

    async def take(self, identifier: UUID, place: Place, *, ttl_s: float) -> Held:
        """Given if no more than `limit` are taken then; under the same id the same again."""
        ...

    async def find(self, identifier: UUID) -> Found | None: ...

    async def renew(self, identifier: UUID, *, ttl_s: float) -> Renewed | None:
        """None when it has run out."""
        ...

    async def release(self, identifier: UUID) -> bool:
        """Whether it was there."""
        ...


@value
class Permit:
    """`expires_ms` None: all are taken. `policy`: as it was asked for."""

    policy: str
    id: UUID
    expires_ms: int | None
    retry_after_ms: int | None
    in_use: int
    limit: int


class Permits:
    def __init__(self, *, policies: PolicyTable, store: PermitStore) -> None:
        self._policies = policies
        self._store = store

    async def take(self, asked: PermitPost) -> Permit:
        """Raises NotFound, Invalid, Denied for who is on the deny list, Conflict for an id that is
        taken, Unavailable. Permits are counted of those on the allow list too."""
        policy = self._concurrency(asked.policy, asked.subject)
        if self._policies.listed(asked.subject) is ListKind.DENY:
            raise errors.Denied("on the deny list", code="denied_by_list")
        identifier = _id(asked)
        place = _place(policy, asked)
        held = await self._store.take(identifier, place, ttl_s=_ttl_s(policy, asked.ttl_ms))
        if held.is_taken:
            raise errors.Conflict("the id is that of another permit", code="id_taken")
        is_given = held.expires_ms is not None
        return Permit(
            policy=policy.id,
            id=identifier,
            expires_ms=held.expires_ms,
            retry_after_ms=None if is_given else held.room_in_ms,
            in_use=held.others + asked.weight if is_given else held.others,
            limit=place.limit,
        )

    async def renew(self, identifier: UUID, *, ttl_ms: int, owner: Owner | None) -> Permit:
        """Raises NotFound for one that has run out: its place may be somebody else's by now."""
        found = await self._find(identifier, owner)
        if found is None:
            raise unknown_permit()
        renewed = await self._store.renew(identifier, ttl_s=ttl_ms / 1000)
        if renewed is None:
            raise unknown_permit()
        policy = self._policies.find(found.policy, subject.shop_of(found.key))
        limit = renewed.in_use if policy is None else policy.pace.burst
        return Permit(found.policy, identifier, renewed.expires_ms, None, renewed.in_use, limit)

    async def release(self, identifier: UUID, *, owner: Owner | None) -> str | None:
        """The policy of what was released; None when nothing was there any more."""
        found = await self._find(identifier, owner)
        if found is None or not await self._store.release(identifier):
            return None
        return found.policy

    async def _find(self, identifier: UUID, owner: Owner | None) -> Found | None:
        """None also for another's: who may not move it need not know of it."""
        found = await self._store.find(identifier)
        return found if found is not None and subject.is_of(found.key, owner) else None

    def _concurrency(self, name: str, who: Subject) -> Policy:
        policy = self._policies.find(name, who)
        if policy is None:
            raise unknown(name)
        if not policy.is_concurrency:
            raise invalid("/policy", f"{name} does not limit how many run at once")
        return policy


def unknown_permit() -> errors.NotFound:
    return errors.NotFound("there is no such permit, or it has run out", code="unknown_permit")


def _id(asked: PermitPost) -> UUID:
    if asked.id is not None and not ids.is_callers(asked.id):
        raise invalid("/id", "must be a UUID of version 4 or 7")
    return asked.id or ids.new_id()


def _place(policy: Policy, asked: PermitPost) -> Place:
    limit = policy.pace.burst
    if asked.weight > limit:
        raise invalid("/weight", f"{policy.id} holds {limit} at most")
    key = subject.key(asked.subject, policy.spec.key, policy.key_name)
    return Place(policy.id, key, asked.weight, limit)


def _ttl_s(policy: Policy, ttl_ms: int | None) -> float:
    if ttl_ms is not None:
        return ttl_ms / 1000
    assert policy.spec.lease_s is not None
    return float(policy.spec.lease_s)
