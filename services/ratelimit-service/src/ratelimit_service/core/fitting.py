"""Whether policies, plans and overrides fit together, asked before any of them changes."""

from collections.abc import Sequence

from chassis.kernel import errors
from contracts.ratelimits import PlanPut, PolicyChange, PolicyPut
from ratelimit_service.core import policy, resolution
from ratelimit_service.core.configuration import Desk, Kind, Overriding, Place

NOTHING = PolicyChange()


async def policy_of(desk: Desk, name: str) -> PolicyPut | None:
    found = await desk.find(Place(Kind.POLICY, "", name))
    return found.said if found is not None and isinstance(found.said, PolicyPut) else None


async def plan_of(desk: Desk, name: str | None) -> PlanPut | None:
    found = await desk.find(Place(Kind.PLAN, "", name)) if name is not None else None
    return found.said if found is not None and isinstance(found.said, PlanPut) else None


def check(
    spec: PolicyPut, *changes: PolicyChange | None, beside: str = "", at: str = "", only: str = ""
) -> None:
    """Raises Invalid that points below `at`, or at `only`, and says `beside` what it does not
    fit."""
    try:
        policy.pace(resolution.merged(spec, [each for each in changes if each is not None]))
    except errors.Invalid as fault:
        why = f" (beside {beside})" if beside else ""
        flaws = [errors.Flaw(only or at + f.pointer, f.detail + why) for f in fault.flaws]
        raise invalid(*flaws) from None


async def check_policy(desk: Desk, name: str, spec: PolicyPut) -> None:
    """A changed policy, beside the plans and overrides that name it."""
    plans = {each.place.name: each.said for each in await desk.plans(policy=name)}
    for plan, said in plans.items():
        check(spec, _of(said, name), beside=f"the plan {plan}")
    for each in await desk.overrides(policy=name):
        check_override(spec, each, plan=_of(plans.get(each.plan or ""), name))


def check_override(
    spec: PolicyPut,
    each: Overriding,
    *,
    plan: PolicyChange | None,
    at: str = "",
    only: str = "",
) -> None:
    beside = f"the override of {each.shop}"
    check(spec, each.change, beside=beside, at=at, only=only)
    check(spec, plan, each.change, beside=f"{beside}, which is on a plan", at=at, only=only)


def _of(plan: object, name: str) -> PolicyChange | None:
    return plan.policies.get(name) if isinstance(plan, PlanPut) else None


def invalid(*flaws: errors.Flaw) -> errors.Invalid:
    first = flaws[0]
    return errors.Invalid(f"{first.pointer or 'the document'}: {first.detail}", flaws=flaws)


def names_a_policy_of_shops(spec: PolicyPut, pointer: str) -> Sequence[errors.Flaw]:
    if resolution.applies(spec):
        return ()
    return (errors.Flaw(pointer, "a policy that counts by address alone is the same for all"),)
