"""The limits in force, as this process knows them: nothing is asked for while a check waits."""

import time
from collections.abc import Callable, Iterable, Sequence

from contracts.ratelimits import ListKind, PolicyChange, Subject
from ratelimit_service.core import known, resolution
from ratelimit_service.core.configuration import Kind, Place, Setting
from ratelimit_service.core.known import Known
from ratelimit_service.core.policy import Policy
from ratelimit_service.core.resolution import FOREVER, Layer, Layers

# Policies that were merged for shops are kept for as many shops; then it begins anew.
MERGED_SHOPS = 10_000


class PolicyTable:
    """Starts with the seeds; `loaded` once the database's word is in."""

    def __init__(
        self, seeds: Iterable[Policy] = (), *, now: Callable[[], float] = time.time
    ) -> None:
        self._now = now
        self._known = Known({each.id: resolution.stepped(each) for each in seeds})
        self._merged: dict[str, dict[str, tuple[Policy, float]]] = {}
        self._on_plans: dict[tuple[str, str], Policy] = {}
        self.loaded = False

    def find(self, identifier: str, subject: Subject | None = None) -> Policy | None:
        """As it holds for the subject's shop, if somebody vouches for it; else as it is."""
        found = self._known.policies.get(identifier)
        if subject is None or found is None:
            return found
        shop = subject.shop
        if shop is None or shop not in self._known.shops or not subject.shop_verified:
            return found
        return self._for_shop(shop, found)

    def all(self) -> Sequence[Policy]:
        """Without what differs for shops."""
        return list(self._known.policies.values())

    def listed(self, subject: Subject) -> ListKind | None:
        """The list that decides, if one does. Raises Invalid for an address that is none."""
        lists = self._known.lists
        return None if lists.is_empty else lists.find(subject, self._now())

    def plan_of(self, shop: str) -> str | None:
        found = self._known.shops.get(shop)
        return found.plan if found is not None else None

    @property
    def overrides(self) -> int:
        """How many there are; some may have run out."""
        return self._known.overrides

    def learn(self, identifier: str, shop: str, change: PolicyChange, *, version: int) -> None:
        """What an upstream said of its own limit for a shop. It wins over what operators set, for
        policies with `learn`. Versions are of the sequence that numbers all settings."""
        of_shop = self._known.shop(shop)
        of_shop.learned = known.put(of_shop.learned, identifier, Layer(version, change))
        self._merged.pop(shop, None)

    def apply(self, setting: Setting) -> None:
        """Raises Invalid for one that cannot be read or counted; then what was there stays."""
        self._known.apply(setting)
        if setting.place.kind in (Kind.OVERRIDE, Kind.SHOP):
            self._merged.pop(setting.place.scope, None)
        elif setting.place.kind in (Kind.POLICY, Kind.PLAN):
            self._forget()

    def become(self, fresh: Known, *, kept: Iterable[Place] = ()) -> None:
        """All of it at once. Of places that are `kept` what was in force stays: what is stored
        there cannot be read."""
        for place in kept:
            fresh.take_from(self._known, place)
        for name, shop in self._known.shops.items():
            if shop.learned:
                fresh.shop(name).learned = shop.learned
        self._known = fresh
        self._forget()
        self.loaded = True

    def _for_shop(self, name: str, found: Policy) -> Policy:
        """Merged once, and again when the override has run out."""
        now_s = self._now()
        merged = self._merged.get(name)
        if merged is not None:
            kept = merged.get(found.id)
            if kept is not None and now_s < kept[1]:
                return kept[0]
        if not resolution.applies(found.spec):
            return found
        shop = self._known.shops[name]
        layers = self._known.layers(shop, found.id)
        resolved = self._resolve(found, layers, shop.plan, now_s)
        if merged is None:
            if len(self._merged) >= MERGED_SHOPS:
                self._merged.clear()
            merged = self._merged[name] = {}
        over = layers.override
        is_held = over is not None and over.holds(now_s)
        merged[found.id] = (resolved, over.until_s if over is not None and is_held else FOREVER)
        return resolved

    def _resolve(self, found: Policy, layers: Layers, plan: str | None, now_s: float) -> Policy:
        """Shops with nothing but the same plan share all but the version."""
        if plan is None or layers.override is not None or layers.learned is not None:
            return resolution.resolve(found, layers, now_s)
        on_plan = self._on_plans.get((found.id, plan))
        if on_plan is None:
            on_plan = self._on_plans[found.id, plan] = resolution.merge(found, layers, now_s)
        return resolution.numbered(on_plan, found, layers, now_s)

    def _forget(self) -> None:
        self._merged.clear()
        self._on_plans.clear()
