"""Which limit holds for a shop: the policy, what the shop's plan changes of it, what an override of
the shop changes, and what was learned of the shop, in this order. The last word wins, field by
field.

A store keeps to the newest pace that it has seen of a key, so the version of a merged pace has to
grow with all that changes it. Every change takes the next number of one sequence; the newest number
among the layers therefore grows with each, if what was removed leaves its number behind. Only time
changes something without a number: an override that runs out. That is half a step.
"""

from collections.abc import Sequence
from dataclasses import replace

from chassis.kernel import errors
from chassis.kernel.values import value
from contracts.ratelimits import KeyKind, PolicyChange, PolicyPut
from ratelimit_service.core import gcra, policy
from ratelimit_service.core.policy import Policy

FOREVER = float("inf")
STEP = 2


@value
class Layer:
    """What differs for a shop, until a moment in seconds since 1970. Without a `change` it is one
    that was removed."""

    version: int
    change: PolicyChange | None
    until_s: float = FOREVER

    def holds(self, now_s: float) -> bool:
        return self.change is not None and now_s < self.until_s


@value
class Layers:
    """`plan_version`: the newer one of the plan's own and of the shop's coming to it or leaving."""

    plan: PolicyChange | None = None
    plan_version: int = 0
    override: Layer | None = None
    learned: Layer | None = None


def stepped(found: Policy, *, version: int | None = None, has_run_out: bool = False) -> Policy:
    """The same at a pace of this version, or of the policy's own."""
    number = STEP * (found.version if version is None else version) + has_run_out
    pace = gcra.Pace(found.pace.t_us, found.pace.tau_us, number)
    return replace(found, pace=pace)


def resolve(found: Policy, layers: Layers, now_s: float) -> Policy:
    """`found` as it holds for a shop at this moment."""
    return numbered(merge(found, layers, now_s), found, layers, now_s)


def merge(found: Policy, layers: Layers, now_s: float) -> Policy:
    """What does not fit together any more steps aside, the plan first, then what was learned: each
    layer fitted the policy when it was made."""
    override, learned = layers.override, layers.learned
    over = override.change if override is not None and override.holds(now_s) else None
    known = learned.change if learned is not None and found.spec.learn else None
    for changes in ((layers.plan, over, known), (over, known), (over,)):
        try:
            return _built(found, [each for each in changes if each is not None])
        except errors.Invalid:
            continue
    return found


def numbered(merged: Policy, found: Policy, layers: Layers, now_s: float) -> Policy:
    """`merged` of `found` at a pace that is newer than every one before it."""
    override, learned = layers.override, layers.learned if found.spec.learn else None
    version = max(
        found.version,
        layers.plan_version,
        override.version if override is not None else 0,
        learned.version if learned is not None else 0,
    )
    has_run_out = override is not None and now_s >= override.until_s
    return stepped(merged, version=version, has_run_out=has_run_out)


def merged(spec: PolicyPut, changes: Sequence[PolicyChange]) -> PolicyPut:
    """A null says nothing. Types are sound already; whether the whole can be counted is for
    `policy.build`."""
    said = {
        name: getattr(change, name)
        for change in changes
        for name in PolicyChange.model_fields
        if getattr(change, name) is not None
    }
    return spec.model_copy(update=said) if said else spec


def applies(spec: PolicyPut) -> bool:
    """An address is nobody's: what differs for a shop does not differ for it."""
    return spec.key is not KeyKind.IP


def _built(found: Policy, changes: Sequence[PolicyChange]) -> Policy:
    if not changes:
        return found
    return policy.build(
        found.id,
        version=found.version,
        spec=merged(found.spec, changes),
        updated_at=found.updated_at,
    )
