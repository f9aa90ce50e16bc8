"""When Shopify refuses the app itself for one shop after another, it is no shop's fault: it is
configuration. Then nobody is asked any more but for a trial now and then, and no session suffers.
"""

from collections.abc import Callable

from chassis.kernel import breaker, errors
from chassis.kernel.clock import Clock
from session_service.core.shopify_app import ShopifyApp

SHOPS_TO_OPEN = 3
POLICY = breaker.Policy(
    failures_to_open=1, hold_base_s=5.0, hold_max_s=60.0, trials=1, ramp_s=0.1, first_share=1.0
)


class Credentials:
    """`on_change(is_refused)` is told when it becomes known, and when it is over."""

    def __init__(
        self,
        app: ShopifyApp,
        *,
        clock: Clock,
        on_change: Callable[[bool], None] = lambda _is_refused: None,
    ) -> None:
        self.circuit = breaker.Breaker(
            "shopify",
            monotonic=clock.monotonic,
            policy=POLICY,
            on_change=lambda _name, state: on_change(state is breaker.State.OPEN),
        )
        self._app = app
        self._refused_by: set[str] = set()

    def named(self) -> list[dict[str, str]]:
        """What every question carries: under the current secret, and then under the old one."""
        return [
            {"client_id": self._app.key, "client_secret": secret} for secret in self._app.secrets
        ]

    def admit(self) -> breaker.Ticket:
        """Raises Unavailable while it is known that the answer would be no."""
        ticket = self.circuit.admit(essential=True)
        if ticket is None:
            raise refused()
        return ticket

    def accepted(self, ticket: breaker.Ticket) -> None:
        self._refused_by.clear()
        self.circuit.success(ticket)

    def refused(self, ticket: breaker.Ticket, shop: str) -> None:
        """One shop alone may just have uninstalled the app."""
        self._refused_by.add(shop)
        if len(self._refused_by) >= SHOPS_TO_OPEN:
            self.circuit.failure(ticket)
        else:
            self.circuit.ignore(ticket)


def refused() -> errors.Unavailable:
    return errors.Unavailable(
        "Shopify refuses this app's key and secret", code="upstream_unavailable", retry_after_s=5.0
    )
