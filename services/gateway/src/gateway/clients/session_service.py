"""session-service, where authorizations begin and end. The gateway asks for itself: who comes with
a browser has no key."""

from pydantic import BaseModel

from chassis.http_client import Answer
from contracts import sessions as wire
from gateway.clients.upstream import Upstream
from gateway.core import ports

JSON = (("Content-Type", "application/json"),)
BEGIN_S = 4.0
# A grant may be repeated while it lasts: Shopify answers badly now and then.
COMPLETE_S = 24.0


class SessionService:
    """Raises what session-service raised."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def begin(self, asked: wire.OAuthBegin) -> wire.OAuthBegun:
        answer = await self._ask("/v1/oauth/begin", asked, within_s=BEGIN_S)
        return wire.OAuthBegun.model_validate_json(answer.body)

    async def complete(self, asked: wire.OAuthComplete) -> wire.OAuthCompleted:
        answer = await self._ask("/v1/oauth/complete", asked, within_s=COMPLETE_S)
        return wire.OAuthCompleted.model_validate_json(answer.body)

    async def _ask(self, path: str, asked: BaseModel, *, within_s: float) -> Answer:
        order = ports.Order(
            method="POST",
            path=path,
            headers=JSON,
            body=asked.model_dump_json().encode(),
            timeout_s=within_s,
            is_own=True,
        )
        return (await self._upstream.call(order, essential=True)).checked()
