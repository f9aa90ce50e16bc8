"""What operators set: policies, overrides of shops, plans, the plan of a shop, the two lists. One
way of reading and changing for all: versions, preconditions, and who changed what."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import pydantic

from chassis.kernel import errors
from chassis.kernel.clock import Clock
from chassis.kernel.values import value
from contracts.ratelimits import ListPut, OverridePut, PlanPut, PolicyPut, ShopPlan


class Kind(StrEnum):
    POLICY = "policy"
    OVERRIDE = "override"
    PLAN = "plan"
    SHOP = "shop"
    LIST = "list"


Said = PolicyPut | OverridePut | PlanPut | ShopPlan | ListPut
MODELS: dict[Kind, type[Said]] = {
    Kind.POLICY: PolicyPut,
    Kind.OVERRIDE: OverridePut,
    Kind.PLAN: PlanPut,
    Kind.SHOP: ShopPlan,
    Kind.LIST: ListPut,
}
# What a shop says of itself has one name: its plan.
PLAN_OF_SHOP = "plan"


@value
class Place:
    """Where a setting is: `scope` is the shop of overrides and of a shop's plan, else empty."""

    kind: Kind
    scope: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`said` is None for one that was removed: its version stays, and goes on growing. `flaw` says
    why a stored one cannot be read."""

    place: Place
    version: int
    said: Said | None
    author: str | None
    updated_at: datetime
    flaw: str | None = None

    def holds(self, now: datetime) -> bool:
        said = self.said
        if isinstance(said, OverridePut) and said.expires_at is not None:
            return now < said.expires_at
        return said is not None or self.flaw is not None


@value
class Expected:
    """What must be there for a change to happen: a version, or anything, or nothing."""

    version: int | None = None
    exists: bool | None = None

    def check(self, found: Setting | None) -> None:
        is_met = self.exists in (None, found is not None)
        if self.version is not None:
            is_met = found is not None and found.version == self.version
        if not is_met:
            there = "nothing" if found is None else f'"{found.version}"'
            raise errors.Outdated(f"the precondition does not hold: there is {there}")


ANYTHING = Expected()


@value
class Overriding:
    """An override that differs from others in what it changes, or in the plan of its shop."""

    shop: str
    policy: str
    change: OverridePut
    plan: str | None


class Desk(Protocol):
    """One writer at a time: what was read is still so when it is written, and versions are visible
    in their order. All of it holds, or nothing."""

    async def find(self, place: Place) -> Setting | None: ...
    async def put(self, place: Place, said: Said, *, author: str) -> Setting: ...
    async def drop(self, place: Place, *, author: str) -> Setting: ...
    async def plans(self, *, policy: str) -> Sequence[Setting]:
        """Those that name the policy."""
        ...

    async def shops_on(self, plan: str) -> int: ...
    async def overrides(
        self, *, policy: str | None = None, plan: str | None = None, shop: str | None = None
    ) -> Sequence[Overriding]:
        """One of each sort that holds now."""
        ...

    async def record(
        self, *, author: str, action: str, subject: str, before: Any, after: Any
    ) -> None: ...


class Store(Protocol):
    """All raise Unavailable."""

    def writing(self) -> AbstractAsyncContextManager[Desk]: ...
    async def find(self, place: Place) -> Setting | None: ...
    async def page(
        self, kind: Kind, *, scope: str | None, after: tuple[str, str], limit: int
    ) -> Sequence[Setting]:
        """Those that hold, by scope and name."""
        ...

    async def since(self, version: int, *, limit: int) -> Sequence[Setting]:
        """What has changed, the removed included, in the order of versions."""
        ...

    async def newest(self) -> int:
        """No version is beyond it."""
        ...


Check = Callable[[Desk], Awaitable[None]]


class Configuration:
    """`apply` puts a change in force here; other replicas read it within seconds."""

    def __init__(self, *, store: Store, apply: Callable[[Setting], None], clock: Clock) -> None:
        self._store = store
        self._apply = apply
        self._clock = clock

    @property
    def now(self) -> datetime:
        return self._clock.now()

    async def find(self, place: Place) -> Setting | None:
        return self._held(await self._store.find(place))

    async def page(
        self, kind: Kind, *, scope: str | None = None, after: tuple[str, str], limit: int
    ) -> Sequence[Setting]:
        return await self._store.page(kind, scope=scope, after=after, limit=limit)

    async def put(
        self, place: Place, said: Said, *, expected: Expected, author: str, check: Check
    ) -> Setting:
        """An equal one changes nothing, whatever version was expected: a repeat whose first answer
        was lost finds its own change. Raises Outdated, and what `check` raises."""
        async with self._store.writing() as desk:
            before = self._held(await desk.find(place))
            if before is not None and before.said == said and expected.exists is not False:
                return before
            expected.check(before)
            await check(desk)
            after = await desk.put(place, said, author=author)
            await _record(desk, before, after, author)
        self._apply(after)
        return after

    async def drop(
        self, place: Place, *, expected: Expected, author: str, check: Check | None = None
    ) -> bool:
        """Was it there? Raises Outdated, and what `check` raises."""
        async with self._store.writing() as desk:
            before = self._held(await desk.find(place))
            expected.check(before)
            if before is None:
                return False
            if check is not None:
                await check(desk)
            after = await desk.drop(place, author=author)
            await _record(desk, before, after, author)
        self._apply(after)
        return True

    def _held(self, found: Setting | None) -> Setting | None:
        return found if found is not None and found.holds(self.now) else None


def known(found: Setting) -> Said:
    """Raises Broken for one that cannot be read; it can be replaced."""
    if found.said is None:
        raise errors.Broken(f"what is stored of this cannot be read: {found.flaw}")
    return found.said


async def _record(desk: Desk, before: Setting | None, after: Setting, author: str) -> None:
    place = after.place
    old, new = _document(before), _document(after)
    action = "delete" if new is None else "create" if old is None else "change"
    if place.kind is Kind.LIST:
        old, new = _difference(old, new)
    await desk.record(
        author=author,
        action=f"{place.kind}.{action}",
        subject="/".join(part for part in (place.scope, place.name) if part),
        before=old,
        after=new,
    )


def _document(setting: Setting | None) -> Any:
    if setting is None or setting.said is None:
        return None
    return document(setting.said)


def document(said: pydantic.BaseModel) -> Any:
    return said.model_dump(mode="json", exclude_none=True)


def _difference(old: Any, new: Any) -> tuple[Any, Any]:
    """Of a long list only what came and what went."""
    before = old["items"] if old else []
    after = new["items"] if new else []
    kept = {repr(each) for each in before} & {repr(each) for each in after}
    return (
        {"items": [each for each in before if repr(each) not in kept]},
        {"items": [each for each in after if repr(each) not in kept]},
    )
