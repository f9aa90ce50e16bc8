"""What an operator sets of rate limits, and sees: part of `Client`. Needs `ratelimits:admin`.

`if_version` is the version that was read: when somebody changed it since, `Outdated` is raised and
nothing changes.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, Required, TypedDict, TypeVar, Unpack

from mainstay import errors, limits
from mainstay.answers import Answer, Page
from mainstay.transport import Transport, step

PREFIX = "/v1/ratelimits"
M = TypeVar("M", bound=Answer)


class PolicyChange(TypedDict, total=False):
    """What differs from a policy for some; what is absent stays as it is."""

    rate: str
    burst: int
    limit: str | int
    lease_s: int
    default_cost: int
    max_cost: int
    shadow: bool
    floors: Mapping[str, float]
    on_failure: str
    max_degraded_s: float


class PolicySpec(PolicyChange, total=False):
    """A whole policy: `gcra` has `rate` ("10/s") and `burst`, `fixed` and `sliding` have `limit`
    ("2000/d") and perhaps `tz`, `concurrency` has `limit` and `lease_s`."""

    key: Required[str]
    algorithm: str
    tz: str
    unit: str
    learn: bool
    consistency: str


class OverrideChange(PolicyChange, total=False):
    reason: str
    expires_at: datetime


class LimitSettings:
    _transport: Transport

    async def list_policies(
        self, *, limit: int = 50, cursor: str | None = None
    ) -> Page[limits.Policy]:
        query = {"limit": limit, "cursor": cursor}
        return await self._set("GET", "policies", Page[limits.Policy], query=query)

    async def get_policy(self, policy: str) -> limits.Policy:
        return await self._set("GET", f"policies/{step(policy)}", limits.Policy)

    async def put_policy(
        self, policy: str, *, if_version: int | None = None, **spec: Unpack[PolicySpec]
    ) -> limits.Policy:
        """The whole policy."""
        path = f"policies/{step(policy)}"
        return await self._set("PUT", path, limits.Policy, spec, if_version=if_version)

    async def delete_policy(self, policy: str) -> None:
        """One that is not there is as you want it."""
        await self._absent(f"policies/{step(policy)}")

    async def simulate_policy(
        self, policy: str, *, minutes: int = 60, **change: Unpack[PolicyChange]
    ) -> limits.Simulation:
        """What the last minutes would have been like with this change; it changes nothing."""
        path = f"policies/{step(policy)}:simulate"
        return await self._set("POST", path, limits.Simulation, {**change, "minutes": minutes})

    async def list_overrides(
        self, *, shop: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[limits.Override]:
        query = {"shop": shop, "limit": limit, "cursor": cursor}
        return await self._set("GET", "overrides", Page[limits.Override], query=query)

    async def get_override(self, shop: str, policy: str) -> limits.Override:
        return await self._set("GET", _override(shop, policy), limits.Override)

    async def put_override(
        self,
        shop: str,
        policy: str,
        *,
        if_version: int | None = None,
        **change: Unpack[OverrideChange],
    ) -> limits.Override:
        """What differs for one shop, why, and until when."""
        path = _override(shop, policy)
        return await self._set("PUT", path, limits.Override, change, if_version=if_version)

    async def delete_override(self, shop: str, policy: str) -> None:
        """One that is not there is as you want it."""
        await self._absent(_override(shop, policy))

    async def list_plans(self, *, limit: int = 50, cursor: str | None = None) -> Page[limits.Plan]:
        query = {"limit": limit, "cursor": cursor}
        return await self._set("GET", "plans", Page[limits.Plan], query=query)

    async def get_plan(self, plan: str) -> limits.Plan:
        return await self._set("GET", f"plans/{step(plan)}", limits.Plan)

    async def put_plan(
        self,
        plan: str,
        policies: Mapping[str, PolicyChange],
        *,
        if_version: int | None = None,
    ) -> limits.Plan:
        """What differs for the shops of a plan, by policy."""
        body = {"policies": dict(policies)}
        path = f"plans/{step(plan)}"
        return await self._set("PUT", path, limits.Plan, body, if_version=if_version)

    async def delete_plan(self, plan: str) -> None:
        """One that is not there is as you want it."""
        await self._absent(f"plans/{step(plan)}")

    async def get_shop_plan(self, shop: str) -> limits.PlanOfShop:
        return await self._set("GET", f"shops/{step(shop)}/plan", limits.PlanOfShop)

    async def put_shop_plan(self, shop: str, plan: str) -> None:
        await self._transport.call("PUT", f"{PREFIX}/shops/{step(shop)}/plan", body={"plan": plan})

    async def delete_shop_plan(self, shop: str) -> None:
        """Back to what holds for all."""
        await self._absent(f"shops/{step(shop)}/plan")

    async def get_limit_list(self, kind: Literal["allow", "deny"]) -> limits.LimitList:
        return await self._set("GET", f"lists/{kind}", limits.LimitList)

    async def put_limit_list(
        self,
        kind: Literal["allow", "deny"],
        items: Iterable[Mapping[str, Any]],
        *,
        if_version: int | None = None,
    ) -> limits.LimitList:
        """The whole list: items `{subject, reason?, expires_at?}`, a subject is a shop, an address
        or a CIDR."""
        body = {"items": [dict(item) for item in items]}
        path = f"lists/{kind}"
        return await self._set("PUT", path, limits.LimitList, body, if_version=if_version)

    async def limit_usage(self, shop: str, *, minutes: int = 60) -> limits.Usage:
        """What a shop asked for lately, and where its limits stand now."""
        query = {"minutes": minutes}
        path = f"{PREFIX}/shops/{step(shop)}/usage"
        return (await self._transport.call("GET", path, query=query)).read(limits.Usage)

    async def top_limited(
        self,
        *,
        by: Literal["denied", "asked"] = "denied",
        minutes: int = 15,
        limit: int = 50,
    ) -> list[limits.ShopCount]:
        """The shops that were refused most, or asked most."""
        query = {"by": by, "minutes": minutes, "limit": limit}
        return (await self._set("GET", "top", limits.Top, query=query)).items

    async def _absent(self, path: str) -> None:
        with suppress(errors.NotFound):
            await self._transport.call("DELETE", f"{PREFIX}/{path}")

    async def _set(
        self,
        method: str,
        path: str,
        model: type[M],
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        if_version: int | None = None,
    ) -> M:
        answered = await self._transport.call(
            method,
            f"{PREFIX}/{path}",
            body=body,
            query=query,
            if_match=None if if_version is None else f'"{if_version}"',
        )
        return answered.answer(model)


def _override(shop: str, policy: str) -> str:
    return f"overrides/{step(shop)}/{step(policy)}"
