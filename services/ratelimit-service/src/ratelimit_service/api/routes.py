"""The paths of ratelimit-service."""

from chassis.web.app import SERVICE, Operation
from contracts import ratelimits
from contracts.sessions import Redacted
from ratelimit_service.api import (
    adjustments,
    checks,
    internal,
    lists,
    overrides,
    permits,
    plans,
    policies,
    queries,
    usage,
)

PREFIX = "/v1/ratelimits"
CHECK = "ratelimits:check"
ADMIN = "ratelimits:admin"
TAG = "ratelimits"

OPERATIONS = (
    Operation(
        method="POST", path=f"{PREFIX}/check", handler=checks.check, scope=CHECK, tag=TAG,
        summary="May this be done now?",
        request=ratelimits.Check, response=ratelimits.Decision,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/check:batch", handler=checks.check_batch, scope=CHECK,
        tag=TAG, summary="Up to 1,000 checks in one decision",
        request=ratelimits.CheckBatch, response=ratelimits.Decisions,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/enforce", handler=checks.enforce, scope=CHECK, tag=TAG,
        summary="A check that answers 204, or 429 with every header",
        request=ratelimits.Check, status=204,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/reserve", handler=checks.reserve, scope=CHECK, tag=TAG,
        summary="A slot of one's own, at most max_wait_ms ahead",
        request=ratelimits.Reserve, response=ratelimits.Decision,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/enforce", handler=queries.enforce, scope=CHECK, tag=TAG,
        summary="The same for proxies that ask without a body",
        query=ratelimits.EnforceQuery, status=204,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/peek", handler=queries.peek, scope=CHECK, tag=TAG,
        summary="Where the limits of a subject stand; takes nothing",
        query=ratelimits.SubjectQuery, response=ratelimits.Levels,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/refund", handler=adjustments.refund, scope=CHECK, tag=TAG,
        summary="Give back what a decision took, once",
        request=ratelimits.Refund, response=ratelimits.Refunded,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/penalize", handler=adjustments.penalize, scope=CHECK,
        tag=TAG, summary="Take a cost whether it fits or not",
        request=ratelimits.Penalize, response=ratelimits.Levels,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/observe", handler=adjustments.observe, scope=CHECK, tag=TAG,
        summary="What an upstream said of its own limit",
        request=ratelimits.Observe, response=ratelimits.Levels,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/reset", handler=adjustments.reset, scope=ADMIN, tag=TAG,
        summary="Forget what a subject has spent; recorded with its author",
        request=ratelimits.Reset, response=ratelimits.Levels,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/leases", handler=adjustments.take_lease, scope=CHECK,
        tag=TAG, summary="Take many at once, to be spent elsewhere",
        request=ratelimits.LeasePost, response=ratelimits.Lease,
    ),
    Operation(
        method="DELETE", path=f"{PREFIX}/leases/{{id}}", handler=adjustments.give_back_lease,
        scope=CHECK, tag=TAG, summary="Give back what a lease has not spent, once",
        query=ratelimits.LeaseQuery, response=ratelimits.Refunded,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/permits", handler=permits.take_permit, scope=CHECK, tag=TAG,
        summary="One of so many at once",
        request=ratelimits.PermitPost, response=ratelimits.Permit,
    ),
    Operation(
        method="PUT", path=f"{PREFIX}/permits/{{id}}", handler=permits.renew_permit, scope=CHECK,
        tag=TAG, summary="Keep a permit for longer",
        request=ratelimits.PermitPut, response=ratelimits.Permit,
    ),
    Operation(
        method="DELETE", path=f"{PREFIX}/permits/{{id}}", handler=permits.release_permit,
        scope=CHECK, tag=TAG, summary="Give a permit back", status=204,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/policies", handler=policies.list_policies, scope=ADMIN,
        tag=TAG, summary="Policies by id",
        query=ratelimits.PolicyQuery, response=ratelimits.Policies,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/policies/{{id}}", handler=policies.get_policy, scope=ADMIN,
        tag=TAG, summary="A policy", response=ratelimits.Policy,
    ),
    Operation(
        method="PUT", path=f"{PREFIX}/policies/{{id}}", handler=policies.put_policy, scope=ADMIN,
        tag=TAG, summary="Make or replace a policy; in force everywhere within 6 s",
        request=ratelimits.PolicyPut, response=ratelimits.Policy,
    ),
    Operation(
        method="DELETE", path=f"{PREFIX}/policies/{{id}}", handler=policies.delete_policy,
        scope=ADMIN, tag=TAG, summary="Remove a policy; checks that name it are 404 from then on",
        status=204,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/overrides",
        handler=overrides.list_overrides, scope=ADMIN, tag=TAG,
        summary="Overrides, of all shops or of one",
        query=ratelimits.OverrideQuery, response=ratelimits.Overrides,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/overrides/{{shop}}/{{policy}}",
        handler=overrides.get_override, scope=ADMIN, tag=TAG,
        summary="What differs from a policy for a shop",
        response=ratelimits.Override,
    ),
    Operation(
        method="PUT", path=f"{PREFIX}/overrides/{{shop}}/{{policy}}",
        handler=overrides.put_override, scope=ADMIN, tag=TAG,
        summary="Make or replace an override; in force everywhere within 6 s",
        request=ratelimits.OverridePut, response=ratelimits.Override,
    ),
    Operation(
        method="DELETE", path=f"{PREFIX}/overrides/{{shop}}/{{policy}}",
        handler=overrides.delete_override, scope=ADMIN, tag=TAG,
        summary="Remove an override: the policy holds again",
        status=204,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/plans",
        handler=plans.list_plans, scope=ADMIN, tag=TAG,
        summary="Plans by id",
        query=ratelimits.PolicyQuery, response=ratelimits.Plans,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/plans/{{id}}",
        handler=plans.get_plan, scope=ADMIN, tag=TAG,
        summary="A plan",
        response=ratelimits.Plan,
    ),
    Operation(
        method="PUT", path=f"{PREFIX}/plans/{{id}}",
        handler=plans.put_plan, scope=ADMIN, tag=TAG,
        summary="Make or replace a plan; in force everywhere within 6 s",
        request=ratelimits.PlanPut, response=ratelimits.Plan,
    ),
    Operation(
        method="DELETE", path=f"{PREFIX}/plans/{{id}}",
        handler=plans.delete_plan, scope=ADMIN, tag=TAG,
        summary="Remove a plan that no shop is on",
        status=204,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/shops/{{shop}}/plan",
        handler=plans.get_shop_plan, scope=ADMIN, tag=TAG,
        summary="The plan of a shop",
        response=ratelimits.PlanOfShop,
    ),
    Operation(
        method="PUT", path=f"{PREFIX}/shops/{{shop}}/plan",
        handler=plans.put_shop_plan, scope=ADMIN, tag=TAG,
        summary="Put a shop on a plan; in force everywhere within 6 s",
        request=ratelimits.ShopPlan, response=ratelimits.PlanOfShop,
    ),
    Operation(
        method="DELETE", path=f"{PREFIX}/shops/{{shop}}/plan",
        handler=plans.delete_shop_plan, scope=ADMIN, tag=TAG,
        summary="Take a shop off its plan",
        status=204,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/lists/{{kind}}",
        handler=lists.get_list, scope=ADMIN, tag=TAG,
        summary="Who may nothing (deny), or is never counted (allow)",
        response=ratelimits.ListAnswer,
    ),
    Operation(
        method="PUT", path=f"{PREFIX}/lists/{{kind}}",
        handler=lists.put_list, scope=ADMIN, tag=TAG,
        summary="Replace a list; in force everywhere within 6 s",
        request=ratelimits.ListPut, response=ratelimits.ListAnswer,
    ),
    Operation(
        method="DELETE", path=f"{PREFIX}/lists/{{kind}}",
        handler=lists.delete_list, scope=ADMIN, tag=TAG,
        summary="Empty a list",
        status=204,
    ),
    Operation(
        method="POST", path=f"{PREFIX}/policies/{{id}}:simulate", handler=usage.simulate,
        scope=ADMIN, tag=TAG, summary="What a change would have done to the last minutes",
        request=ratelimits.Simulate, response=ratelimits.Simulation,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/top", handler=usage.top, scope=ADMIN, tag=TAG,
        summary="The shops that were denied, or asked, the most",
        query=ratelimits.TopQuery, response=ratelimits.Top,
    ),
    Operation(
        method="GET", path=f"{PREFIX}/shops/{{shop}}/usage", handler=usage.of_shop, scope=CHECK,
        tag=TAG, summary="What a shop asked for lately, and where its limits stand",
        query=ratelimits.UsageQuery, response=ratelimits.Usage,
    ),
    Operation(
        method="POST", path="/internal/v1/shops/{shop:[^/:]+}:redact", handler=internal.redact,
        scope=SERVICE, tag="internal", summary="A shop is to be forgotten",
        request=Redacted, status=204,
    ),
)  # fmt: skip
