"""ratelimit-service as the limiter of admission: concurrent requests ask it together."""

from collections.abc import Sequence
from typing import Any

import orjson

from chassis.kernel import errors
from chassis.kernel.coalesce import Coalescer
from gateway.clients.upstream import Upstream
from gateway.core import ports

CHECK_PATH = "/v1/ratelimits/check:batch"
JSON = (("Content-Type", "application/json"),)
# Admission must stay invisible; who does not answer by then is not asked.
BUDGET_S = 0.05
ITEMS = 100


class RatelimitService:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._ask: Coalescer[ports.Demand, ports.Decision] = Coalescer(
            self._check_many, items=ITEMS, lanes=4
        )

    async def check(self, demand: ports.Demand) -> ports.Decision:
        return await self._ask(demand, within_s=BUDGET_S)

    async def close(self) -> None:
        await self._ask.close()

    async def _check_many(
        self, demands: Sequence[ports.Demand]
    ) -> Sequence[ports.Decision | errors.Fault]:
        order = ports.Order(
            method="POST",
            path=CHECK_PATH,
            headers=JSON,
            body=orjson.dumps({"items": [_item(each) for each in demands]}),
            timeout_s=BUDGET_S,
            is_own=True,
        )
        answer = await self._upstream.call(order)
        if answer.status != 200:
            raise errors.Unavailable(f"ratelimit-service answered {answer.status}")
        try:
            found = [_decision(each) for each in answer.json()["results"]]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise errors.Unavailable("ratelimit-service answered something else") from error
        if len(found) != len(demands):
            raise errors.Unavailable("ratelimit-service answered for another number of requests")
        return found


def _item(demand: ports.Demand) -> dict[str, Any]:
    subject = {"shop": demand.shop, "ip": demand.address, "user": demand.key_id}
    return {
        "subject": {name: value for name, value in subject.items() if value is not None},
        "policies": list(demand.policies),
    }


def _decision(given: dict[str, Any]) -> ports.Decision:
    limits = tuple(
        ports.Limit(
            policy=each["policy"],
            burst=each["limit"],
            remaining=each["remaining"],
            window_s=each["window_s"],
            reset_s=each["reset_ms"] / 1000,
            violated=each["violated"] and not each["shadow"],
        )
        for each in given["limits"]
    )
    wait_ms = given.get("retry_after_ms") or given.get("wait_ms") or 0
    return ports.Decision(
        allowed=given["allowed"],
        limits=limits,
        retry_after_s=wait_ms / 1000,
        degraded=given["backend"] == "local",
    )
