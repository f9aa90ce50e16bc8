"""Asking ratelimit-service for a slot. Without an answer nothing is sent unpaced."""

from chassis.http_client import ServiceClient
from chassis.kernel import errors
from contracts import ratelimits as wire
from mainstay import handler

TIMEOUT_S = 2.0
PATH = "/v1/ratelimits/reserve"


class RateLimits:
    """The Limiter of `core.execute` over HTTP."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def reserve(
        self,
        policy: str,
        *,
        sender: str | None,
        shop: str | None,
        cost: int,
        max_wait_ms: int,
    ) -> handler.Reservation:
        asked = wire.Reserve(
            subject=wire.Subject(shop=shop, sender=sender),
            policies=[policy],
            cost=cost,
            max_wait_ms=max_wait_ms,
        )
        try:
            answer = await self._client.request(
                "POST", PATH, json=asked.model_dump(mode="json"), timeout_s=TIMEOUT_S
            )
            decision = wire.Decision.model_validate(answer.checked().json())
        except errors.Unavailable as error:
            raise handler.Unavailable(error.detail) from error
        except (errors.Fault, ValueError) as error:
            raise handler.Permanent(f"the limit {policy} cannot be asked: {error}") from error
        return handler.Reservation(
            allowed=decision.allowed,
            wait_ms=decision.wait_ms,
            token=decision.token,
            backend=decision.backend,
            degraded=decision.degraded,
            unsatisfiable=decision.unsatisfiable,
        )
