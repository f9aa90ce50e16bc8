"""The paths of ratelimit-service."""

from chassis.web.app import Operation
from contracts import ratelimits
from ratelimit_service.api import checks, policies, usage

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
)  # fmt: skip
