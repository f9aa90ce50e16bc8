"""ratelimit-service as what paces calls to Shopify.

A pace is a courtesy: Shopify keeps its own limits and says so. Who does not answer soon is not
waited for, and a circuit keeps everybody from asking one that is away.
"""

from typing import Unpack

from pydantic import BaseModel

from chassis.http_client import Answer, ServiceClient
from chassis.kernel import breaker, errors
from chassis.kernel.clock import Clock
from contracts import ratelimits as wire
from mainstay import handler
from mainstay.limits import Observed

BUDGET_S = 0.25
PREFIX = "/v1/ratelimits"
POLICY = breaker.Policy(
    failures_to_open=3, hold_base_s=0.5, hold_max_s=5.0, trials=1, ramp_s=1.0, first_share=0.25
)


class RateLimits:
    """What `mainstay.pace` keeps a pace by. `reserve` raises mainstay's Unavailable; what is told
    afterwards is lost then."""

    def __init__(self, client: ServiceClient, *, clock: Clock) -> None:
        self._client = client
        self._circuit = breaker.Breaker(
            "ratelimit-service", monotonic=clock.monotonic, policy=POLICY
        )

    async def reserve(
        self, policy: str, *, shop: str | None, cost: int, max_wait_ms: int
    ) -> handler.Reservation:
        asked = wire.Reserve(
            subject=wire.Subject(shop=shop),
            policies=[policy],
            cost=cost,
            max_wait_ms=max_wait_ms,
        )
        try:
            answer = await self._ask("reserve", asked)
            return handler.Reservation.of(wire.Decision.model_validate_json(answer.body))
        except (errors.Fault, ValueError) as error:
            raise handler.Unavailable("nobody paces the calls to Shopify") from error

    async def refund(self, slot: handler.Reservation, cost: int | None = None) -> int:
        if slot.token is None:
            return 0
        try:
            answer = await self._ask("refund", wire.Refund(token=slot.token, cost=cost))
            return wire.Refunded.model_validate_json(answer.body).refunded
        except (errors.Fault, ValueError):
            return 0

    async def observe(
        self, policy: str, *, shop: str | None = None, **told: Unpack[Observed]
    ) -> None:
        try:
            asked = wire.Observe.model_validate({"policy": policy, "shop": shop, **told})
            await self._ask("observe", asked)
        except (errors.Fault, ValueError):
            return

    async def _ask(self, call: str, asked: BaseModel) -> Answer:
        ticket = self._circuit.admit()
        if ticket is None:
            raise errors.Unavailable("ratelimit-service does not answer at the moment")
        try:
            answer = await self._client.request(
                "POST",
                f"{PREFIX}/{call}",
                json=asked.model_dump(mode="json", exclude_none=True),
                timeout_s=BUDGET_S,
            )
        except errors.Unavailable:
            self._circuit.failure(ticket)
            raise
        except BaseException:
            self._circuit.ignore(ticket)
            raise
        self._circuit.success(ticket)
        return answer.checked()
