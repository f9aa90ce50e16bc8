"""Asking ratelimit-service for a slot. Without an answer nothing is sent unpaced."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ValidationError

from chassis.http_client import Answer, ServiceClient
from chassis.kernel import errors
from contracts import ratelimits as wire
from mainstay import handler
from mainstay.limits import Observed

TIMEOUT_S = 2.0
PREFIX = "/v1/ratelimits"


class RateLimits:
    """The Limiter of `core.context` over HTTP."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client

    async def reserve(
        self,
        policies: Sequence[str],
        *,
        subject: Mapping[str, str | None],
        cost: int,
        max_wait_ms: int,
    ) -> handler.Reservation:
        try:
            asked = wire.Reserve(
                subject=wire.Subject.model_validate(subject),
                policies=list(policies),
                cost=cost,
                max_wait_ms=max_wait_ms,
            )
            answer = await self._ask("reserve", asked)
            decision = wire.Decision.model_validate(answer.json())
        except ValueError as error:
            raise _cannot(", ".join(policies), error) from error
        return handler.Reservation.of(decision)

    async def refund(self, token: str, cost: int | None) -> int:
        try:
            answer = await self._ask("refund", wire.Refund(token=token, cost=cost))
            return wire.Refunded.model_validate(answer.json()).refunded
        except ValueError as error:
            raise _cannot("of the token", error) from error

    async def observe(self, policy: str, shop: str, told: Observed) -> None:
        try:
            asked = wire.Observe.model_validate({"policy": policy, "shop": shop, **told})
        except ValidationError as error:
            raise _cannot(policy, error) from error
        await self._ask("observe", asked)

    async def _ask(self, call: str, asked: BaseModel) -> Answer:
        try:
            answer = await self._client.request(
                "POST", f"{PREFIX}/{call}", json=asked.model_dump(mode="json", exclude_none=True),
                timeout_s=TIMEOUT_S,
            )  # fmt: skip
            return answer.checked()
        except errors.Unavailable as error:
            raise handler.Unavailable(error.detail) from error
        except errors.Fault as error:
            raise _cannot(call, error) from error


def _cannot(what: str, error: Exception) -> handler.Permanent:
    return handler.Permanent(f"the limit {what} cannot be asked: {error}")
