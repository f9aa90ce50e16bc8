"""How much may come in: per API key and shop, without a key per address.

ratelimit-service decides, within a small budget. While it does not, this process does, by the
rates that it was last told, and says so. A limiter that is away never refuses anybody.
"""

import math
from collections.abc import Callable

from chassis.kernel import errors
from gateway.core import gcra, hops, keys, ports

API_KEY = "api-key"
API = "api"
API_IP = "api-ip"
LOCAL = "limits;local"

# Until ratelimit-service has said what its policies are.
RATES = {
    API_KEY: gcra.Rate(per_s=5_000, burst=50_000),
    API: gcra.Rate(per_s=10, burst=100),
    API_IP: gcra.Rate(per_s=30, burst=300),
}


class Admission:
    """`counted` is told (backend, outcome) of each decision."""

    def __init__(
        self,
        *,
        limiter: ports.Limiter,
        buckets: gcra.Buckets,
        counted: Callable[[str, str], None],
    ) -> None:
        self._limiter = limiter
        self._buckets = buckets
        self._counted = counted
        self._rates = dict(RATES)

    async def __call__(
        self, *, identity: keys.Identity | None, shop: str | None, address: str
    ) -> str | None:
        """Let it pass, or raise Limited. Returns what is degraded about the decision."""
        if identity is not None and identity.is_admin:
            return None
        demand = _demand(identity, shop, address)
        try:
            decision, backend = await self._limiter.check(demand), "service"
            self._learn(decision)
        except errors.Unavailable:
            decision, backend = self._locally(demand), "local"
        self._counted(backend, "allowed" if decision.allowed else "refused")
        if not decision.allowed:
            raise refusal(decision)
        return LOCAL if decision.degraded else None

    def _learn(self, decision: ports.Decision) -> None:
        for limit in decision.limits:
            if limit.policy in RATES and limit.burst > 0 and limit.window_s > 0:
                per_s = limit.burst / limit.window_s
                self._rates[limit.policy] = gcra.Rate(per_s=per_s, burst=limit.burst)

    def _locally(self, demand: ports.Demand) -> ports.Decision:
        """One token of each bucket, or of none."""
        buckets = [(name, (name, _subject(name, demand))) for name in demand.policies]
        levels = [self._buckets.peek(key, self._rates[name]) for name, key in buckets]
        allowed = all(level.allowed for level in levels)
        if allowed:
            levels = [self._buckets.take(key, self._rates[name]) for name, key in buckets]
        return ports.Decision(
            allowed=allowed,
            limits=tuple(
                ports.Limit(
                    policy=name,
                    burst=self._rates[name].burst,
                    remaining=level.remaining,
                    window_s=self._rates[name].window_s,
                    reset_s=level.retry_after_s,
                    violated=not level.allowed,
                )
                for (name, _key), level in zip(buckets, levels, strict=True)
            ),
            retry_after_s=max(level.retry_after_s for level in levels),
            degraded=True,
        )


def _demand(identity: keys.Identity | None, shop: str | None, address: str) -> ports.Demand:
    if identity is None:
        policies: tuple[str, ...] = (API_IP,)
    else:
        policies = (API_KEY, API) if shop else (API_KEY,)
    key_id = identity.key_id if identity else None
    return ports.Demand(policies=policies, shop=shop, key_id=key_id, address=address)


def _subject(policy: str, demand: ports.Demand) -> str:
    match policy:
        case "api-key":
            return demand.key_id or ""
        case "api":
            return demand.shop or hops.network(demand.address)
        case _:
            return hops.network(demand.address)


def refusal(decision: ports.Decision) -> errors.Limited:
    """429 with the headers that say which limit, how it is made, and when to come again."""
    violated = [limit for limit in decision.limits if limit.violated] or list(decision.limits)
    headers = {
        "RateLimit": ", ".join(
            f'"{each.policy}";r={each.remaining};t={max(1, math.ceil(each.reset_s))}'
            for each in violated
        ),
        "RateLimit-Policy": ", ".join(
            f'"{each.policy}";q={each.burst};w={each.window_s}' for each in violated
        ),
    }
    if decision.degraded:
        headers["Degraded"] = LOCAL
    return errors.Limited(
        f"over the limit {violated[0].policy}" if violated else "over a limit",
        retry_after_s=decision.retry_after_s,
        headers=headers,
    )
