"""The settings in force, each with its version: what is put in twice, or late, changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from chassis.kernel import errors
from contracts.ratelimits import (
    ListKind,
    ListPut,
    OverridePut,
    PlanPut,
    PolicyChange,
    PolicyPut,
    ShopPlan,
)
from ratelimit_service.core import policy, resolution
from ratelimit_service.core.configuration import Kind, Place, Setting
from ratelimit_service.core.lists import AccessList, AccessLists
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.resolution import FOREVER, Layer, Layers


@dataclass(slots=True)
class Shop:
    """What is said of a shop. Most are on a plan and have nothing else."""

    plan: str | None = None
    plan_version: int = 0
    overrides: dict[str, Layer] | None = None
    learned: dict[str, Layer] | None = None


@dataclass(slots=True)
class Plan:
    version: int
    policies: Mapping[str, PolicyChange]


@dataclass(slots=True)
class Known:
    """`gone`: the versions of policies that were removed. `overrides`: how many there are; some
    may have run out."""

    policies: dict[str, Policy] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    shops: dict[str, Shop] = field(default_factory=dict)
    overrides: int = 0
    lists: AccessLists = field(default_factory=AccessLists)
    list_versions: dict[str, int] = field(default_factory=dict)

    def apply(self, setting: Setting) -> None:
        """Raises Invalid for one that cannot be read or counted; then what was there stays."""
        if setting.flaw is not None:
            raise errors.Invalid(setting.flaw)
        place, said, version = setting.place, setting.said, setting.version
        match place.kind:
            case Kind.POLICY:
                self._put_policy(setting)
            case Kind.OVERRIDE:
                self._put_override(place, said, version)
            case Kind.PLAN:
                self._put_plan(place.name, said, version)
            case Kind.SHOP:
                self._put_shop(place.scope, said, version)
            case Kind.LIST:
                self._put_list(place.name, said, version)

    def shop(self, name: str) -> Shop:
        found = self.shops.get(name)
        if found is None:
            found = self.shops[name] = Shop()
        return found

    def layers(self, shop: Shop, identifier: str) -> Layers:
        plan = self.plans.get(shop.plan) if shop.plan is not None else None
        return Layers(
            plan.policies.get(identifier) if plan is not None else None,
            max(shop.plan_version, plan.version if plan is not None else 0),
            shop.overrides.get(identifier) if shop.overrides else None,
            shop.learned.get(identifier) if shop.learned else None,
        )

    def take_from(self, old: "Known", place: Place) -> None:
        """What was in force there."""
        name, scope = place.name, place.scope
        match place.kind:
            case Kind.POLICY if name in old.policies:
                self.policies[name] = old.policies[name]
            case Kind.PLAN if name in old.plans:
                self.plans[name] = old.plans[name]
            case Kind.SHOP if scope in old.shops:
                self.shop(scope).plan = old.shops[scope].plan
                self.shop(scope).plan_version = old.shops[scope].plan_version
            case Kind.OVERRIDE if layer := _override(old, scope, name):
                self._override(scope, name, layer)
            case Kind.LIST if name in old.list_versions:
                self.lists.put(ListKind(name), old.lists.of(ListKind(name)))
                self.list_versions[name] = old.list_versions[name]
            case _:
                pass

    def _put_policy(self, setting: Setting) -> None:
        name, version, said = setting.place.name, setting.version, setting.said
        known = self.policies.get(name)
        if max(known.version if known is not None else -1, self.gone.get(name, -1)) >= version:
            return
        if isinstance(said, PolicyPut):
            built = policy.build(name, version=version, spec=said, updated_at=setting.updated_at)
            self.policies[name] = resolution.stepped(built)
        else:
            self.policies.pop(name, None)
            self.gone[name] = version

    def _put_override(self, place: Place, said: object, version: int) -> None:
        change, until_s = None, FOREVER
        if isinstance(said, OverridePut):
            change = said
            until_s = FOREVER if said.expires_at is None else said.expires_at.timestamp()
        self._override(place.scope, place.name, Layer(version, change, until_s))

    def _override(self, scope: str, name: str, layer: Layer) -> None:
        shop = self.shop(scope)
        self.overrides -= _counts(shop, name)
        shop.overrides = put(shop.overrides, name, layer)
        self.overrides += _counts(shop, name)

    def _put_plan(self, name: str, said: object, version: int) -> None:
        known = self.plans.get(name)
        if known is None or known.version < version:
            self.plans[name] = Plan(version, said.policies if isinstance(said, PlanPut) else {})

    def _put_shop(self, name: str, said: object, version: int) -> None:
        shop = self.shop(name)
        if shop.plan_version < version:
            shop.plan = said.plan if isinstance(said, ShopPlan) else None
            shop.plan_version = version

    def _put_list(self, name: str, said: object, version: int) -> None:
        if self.list_versions.get(name, -1) >= version:
            return
        try:
            entries = AccessList(said.items if isinstance(said, ListPut) else ())
        except ValueError as error:
            raise errors.Invalid(str(error)) from None
        self.lists.put(ListKind(name), entries)
        self.list_versions[name] = version


def put(layers: dict[str, Layer] | None, name: str, layer: Layer) -> dict[str, Layer]:
    if layers is None:
        return {name: layer}
    known = layers.get(name)
    if known is None or known.version < layer.version:
        layers[name] = layer
    return layers


def _counts(shop: Shop, name: str) -> bool:
    found = shop.overrides.get(name) if shop.overrides else None
    return found is not None and found.change is not None


def _override(known: Known, shop: str, name: str) -> Layer | None:
    found = known.shops.get(shop)
    return found.overrides.get(name) if found is not None and found.overrides else None
