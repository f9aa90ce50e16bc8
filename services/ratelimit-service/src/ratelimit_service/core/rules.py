"""What operators may do: policies, overrides, plans and lists, each checked before it is kept."""

from collections.abc import Sequence

from chassis.kernel import errors
from contracts.ratelimits import ListKind, ListPut, OverridePut, PlanPut, PolicyPut, ShopPlan
from ratelimit_service.core import fitting, lists, policy
from ratelimit_service.core.configuration import (
    ANYTHING,
    PLAN_OF_SHOP,
    Configuration,
    Desk,
    Expected,
    Kind,
    Overriding,
    Place,
    Setting,
)


class Policies:
    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    async def page(self, *, after: str, limit: int) -> Sequence[Setting]:
        return await self._configuration.page(Kind.POLICY, after=("", after), limit=limit)

    async def get(self, name: str) -> Setting:
        return await self._configuration.find(_policy(name)) or _raise(_unknown_policy(name))

    async def put(
        self, name: str, spec: PolicyPut, *, author: str, expected: Expected = ANYTHING
    ) -> Setting:
        """Raises Invalid for a policy that cannot be counted, or that a plan or an override of it
        does not fit; then nothing has changed."""
        policy.pace(spec)

        async def check(desk: Desk) -> None:
            await fitting.check_policy(desk, name, spec)

        return await self._configuration.put(
            _policy(name), spec, expected=expected, author=author, check=check
        )

    async def delete(self, name: str, *, author: str, expected: Expected = ANYTHING) -> None:
        """Raises Conflict while a plan or an override refers to it: who deletes a policy by mistake
        would lose more than can be put back by one call."""

        async def check(desk: Desk) -> None:
            if plans := await desk.plans(policy=name):
                raise _in_use(f"the plan {plans[0].place.name} refers to it")
            if over := await desk.overrides(policy=name):
                raise _in_use(f"an override of {over[0].shop} refers to it")

        if not await self._configuration.drop(
            _policy(name), expected=expected, author=author, check=check
        ):
            raise _unknown_policy(name)


class Overrides:
    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    async def page(
        self, *, shop: str | None, after: tuple[str, str], limit: int
    ) -> Sequence[Setting]:
        return await self._configuration.page(Kind.OVERRIDE, scope=shop, after=after, limit=limit)

    async def get(self, shop: str, name: str) -> Setting:
        place = Place(Kind.OVERRIDE, shop, name)
        return await self._configuration.find(place) or _raise(_no_override(shop, name))

    async def put(
        self,
        shop: str,
        name: str,
        said: OverridePut,
        *,
        author: str,
        expected: Expected = ANYTHING,
    ) -> Setting:
        """Raises NotFound for an unknown policy, Invalid for what does not fit it."""
        self._check_alone(said)

        async def check(desk: Desk) -> None:
            spec = await fitting.policy_of(desk, name)
            if spec is None:
                raise _unknown_policy(name)
            if flaws := fitting.names_a_policy_of_shops(spec, ""):
                raise fitting.invalid(*flaws)
            fitting.check(spec, said)
            on = await desk.find(Place(Kind.SHOP, shop, PLAN_OF_SHOP))
            if on is not None and isinstance(on.said, ShopPlan):
                plan = await fitting.plan_of(desk, on.said.plan)
                change = plan.policies.get(name) if plan is not None else None
                fitting.check(spec, change, said, beside=f"the plan {on.said.plan}")

        return await self._configuration.put(
            Place(Kind.OVERRIDE, shop, name), said, expected=expected, author=author, check=check
        )

    async def delete(
        self, shop: str, name: str, *, author: str, expected: Expected = ANYTHING
    ) -> None:
        place = Place(Kind.OVERRIDE, shop, name)
        if not await self._configuration.drop(place, expected=expected, author=author):
            raise _no_override(shop, name)

    def _check_alone(self, said: OverridePut) -> None:
        if said.expires_at is not None and said.expires_at <= self._configuration.now:
            raise fitting.invalid(errors.Flaw("/expires_at", "has passed"))
        if not said.model_dump(exclude_none=True, exclude={"reason", "expires_at"}):
            raise fitting.invalid(errors.Flaw("", "names nothing that differs"))


class Plans:
    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    async def page(self, *, after: str, limit: int) -> Sequence[Setting]:
        return await self._configuration.page(Kind.PLAN, after=("", after), limit=limit)

    async def get(self, name: str) -> Setting:
        return await self._configuration.find(_plan(name)) or _raise(_no_plan(name))

    async def put(
        self, name: str, said: PlanPut, *, author: str, expected: Expected = ANYTHING
    ) -> Setting:
        """Raises Invalid that points to every policy which is not there or does not fit."""

        async def check(desk: Desk) -> None:
            specs = await _specs(desk, said)
            for policy_name, change in said.policies.items():
                fitting.check(specs[policy_name], change, at=f"/policies/{policy_name}")
            for each in await desk.overrides(plan=name):
                spec = specs.get(each.policy)
                if spec is not None:
                    changed = said.policies.get(each.policy)
                    at = f"/policies/{each.policy}"
                    fitting.check_override(spec, each, plan=changed, at=at)

        return await self._configuration.put(
            _plan(name), said, expected=expected, author=author, check=check
        )

    async def delete(self, name: str, *, author: str, expected: Expected = ANYTHING) -> None:
        """Raises Conflict while a shop is on it."""

        async def check(desk: Desk) -> None:
            if shops := await desk.shops_on(name):
                raise _in_use(f"{shops} {'shop is' if shops == 1 else 'shops are'} on it")

        if not await self._configuration.drop(
            _plan(name), expected=expected, author=author, check=check
        ):
            raise _no_plan(name)

    async def get_of(self, shop: str) -> Setting:
        found = await self._configuration.find(_of_shop(shop))
        return found or _raise(_on_no_plan(shop))

    async def put_of(
        self, shop: str, said: ShopPlan, *, author: str, expected: Expected = ANYTHING
    ) -> Setting:
        """Raises Invalid for an unknown plan, or one that does not fit an override of the shop."""

        async def check(desk: Desk) -> None:
            plan = await fitting.plan_of(desk, said.plan)
            if plan is None:
                raise fitting.invalid(errors.Flaw("/plan", f"there is no plan {said.plan}"))
            for each in await desk.overrides(shop=shop):
                await _check_on(desk, plan, each)

        return await self._configuration.put(
            _of_shop(shop), said, expected=expected, author=author, check=check
        )

    async def delete_of(self, shop: str, *, author: str, expected: Expected = ANYTHING) -> None:
        if not await self._configuration.drop(_of_shop(shop), expected=expected, author=author):
            raise _on_no_plan(shop)


class Lists:
    """Both are always there, empty at first."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    async def get(self, kind: ListKind) -> Setting | None:
        return await self._configuration.find(_list(kind))

    async def put(
        self, kind: ListKind, said: ListPut, *, author: str, expected: Expected = ANYTHING
    ) -> Setting:
        lists.check(said.items)
        return await self._configuration.put(
            _list(kind), said, expected=expected, author=author, check=_nothing
        )

    async def clear(self, kind: ListKind, *, author: str, expected: Expected = ANYTHING) -> None:
        await self._configuration.drop(_list(kind), expected=expected, author=author)


async def _specs(desk: Desk, said: PlanPut) -> dict[str, PolicyPut]:
    specs: dict[str, PolicyPut] = {}
    flaws: list[errors.Flaw] = []
    for name in said.policies:
        spec = await fitting.policy_of(desk, name)
        pointer = f"/policies/{name}"
        if spec is None:
            flaws.append(errors.Flaw(pointer, f"there is no policy {name}"))
            continue
        flaws += fitting.names_a_policy_of_shops(spec, pointer)
        specs[name] = spec
    if flaws:
        raise fitting.invalid(*flaws)
    return specs


async def _check_on(desk: Desk, plan: PlanPut, each: Overriding) -> None:
    spec = await fitting.policy_of(desk, each.policy)
    if spec is not None and each.policy in plan.policies:
        fitting.check_override(spec, each, plan=plan.policies[each.policy], only="/plan")


async def _nothing(_desk: Desk) -> None:
    pass


def _policy(name: str) -> Place:
    return Place(Kind.POLICY, "", name)


def _plan(name: str) -> Place:
    return Place(Kind.PLAN, "", name)


def _of_shop(shop: str) -> Place:
    return Place(Kind.SHOP, shop, PLAN_OF_SHOP)


def _list(kind: ListKind) -> Place:
    return Place(Kind.LIST, "", kind.value)


def _raise(fault: errors.Fault) -> Setting:
    raise fault


def _unknown_policy(name: str) -> errors.NotFound:
    return errors.NotFound(f"there is no policy {name}", code="unknown_policy")


def _no_override(shop: str, name: str) -> errors.NotFound:
    return errors.NotFound(f"{shop} has no override of {name}")


def _no_plan(name: str) -> errors.NotFound:
    return errors.NotFound(f"there is no plan {name}")


def _on_no_plan(shop: str) -> errors.NotFound:
    return errors.NotFound(f"{shop} is on no plan")


def _in_use(detail: str) -> errors.Conflict:
    return errors.Conflict(detail, code="in_use")
