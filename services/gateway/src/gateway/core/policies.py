"""The policies of admission, as far as this gateway knows them."""

from collections.abc import Iterable

from chassis.kernel.values import value
from gateway.core import gcra, hops, ports

API_KEY = "api-key"
API = "api"
API_IP = "api-ip"
WEBHOOK_IN = "webhook-in"


@value
class Known:
    """`kind`: what it counts by. `is_exempt`: it never refuses anybody."""

    kind: str
    pace: gcra.Pace
    is_exempt: bool = False
    is_leasable: bool = True
    on_failure: str = "local"
    max_degraded_s: float = 0.0

    def mode(self, away_s: float) -> str:
        """What holds when the limiter has been away for so long: local, open or closed."""
        return "local" if away_s < self.max_degraded_s else self.on_failure

    def subject(self, demand: ports.Demand) -> ports.Subject | None:
        """Whom it counts of a request; None: nobody it could count."""
        match self.kind:
            case "user":
                return ("user", demand.key_id) if demand.key_id else None
            case "shop":
                return ("shop", demand.shop) if demand.shop else None
            case "shop_or_ip" if demand.shop:
                return ("shop", demand.shop)
            case "shop_or_ip" | "ip":
                return ("ip", hops.network(demand.address))
            case _:
                return None


# Until ratelimit-service has said what its policies are.
DEFAULTS = {
    API_KEY: Known("user", gcra.pace(per_s=5_000, burst=50_000)),
    API: Known("shop_or_ip", gcra.pace(per_s=10, burst=100)),
    API_IP: Known("ip", gcra.pace(per_s=30, burst=300)),
    WEBHOOK_IN: Known("shop_or_ip", gcra.pace(per_s=50, burst=1_000), on_failure="open"),
}


class Policies:
    def __init__(self) -> None:
        self._known = dict(DEFAULTS)

    def get(self, name: str) -> Known | None:
        """None: there is no such policy, so nothing to ask for."""
        return self._known.get(name)

    def replace(self, found: Iterable[ports.Policy]) -> bool:
        """Has anything changed?"""
        known = {each.id: _known(each) for each in found}
        is_changed = known != self._known
        if is_changed:
            self._known = known
        return is_changed


def _known(policy: ports.Policy) -> Known:
    return Known(
        kind=policy.kind,
        pace=gcra.Pace(policy.t_us, policy.t_us * policy.burst),
        is_exempt=policy.shadow,
        is_leasable=policy.is_leasable,
        on_failure=policy.on_failure,
        max_degraded_s=policy.max_degraded_s,
    )
