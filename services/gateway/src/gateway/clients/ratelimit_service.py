"""ratelimit-service as the limiter of admission: concurrent requests ask it together."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import orjson

from chassis.http_client import Answer
from chassis.kernel import breaker, errors
from chassis.kernel.coalesce import Coalescer
from gateway.clients.upstream import Upstream
from gateway.core import admission, policies, ports

PREFIX = "/v1/ratelimits"
CHECK_PATH = f"{PREFIX}/check:batch"
JSON = (("Content-Type", "application/json"),)
# Admission must stay invisible; who does not answer by then is not asked.
BUDGET_S = 0.05
# For what no request waits for.
ASIDE_S = 1.0
ITEMS = 100
TRIALS = 3
# What a look that takes nothing is about.
NOBODY = "127.0.0.1"
REASON = "local spend"
_RATE = re.compile(r"(\d+)/(\d*)(s|mo|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "mo": 30 * 86_400}


class RatelimitService:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._ask: Coalescer[ports.Demand, ports.Decision] = Coalescer(
            self._check_many, items=ITEMS, lanes=4
        )

    async def check(self, demand: ports.Demand) -> ports.Decision:
        return await self._ask(demand, within_s=BUDGET_S)

    async def answers(self) -> None:
        """Stands for the trials of the circuit, so that no request has to."""
        subject = {"ip": NOBODY}
        item = {"subject": subject, "policies": [policies.API_IP], "mode": "peek"}
        for _ in range(TRIALS):
            await self._call("POST", CHECK_PATH, {"items": [item]}, within_s=BUDGET_S)
            if self._upstream.circuit.state is not breaker.State.HALF_OPEN:
                return
        raise errors.Unavailable("ratelimit-service is on trial")

    async def lease(
        self, policy: str, subject: ports.Subject, *, want: int, ttl_s: float
    ) -> ports.Grant:
        asked = {
            "policy": policy,
            "subject": dict([subject]),
            "want": want,
            "ttl_ms": int(ttl_s * 1000),
        }
        answer = await self._call("POST", f"{PREFIX}/leases", asked, within_s=BUDGET_S)
        with _Reading():
            given = _good(answer).json()
            return ports.Grant(
                id=given["id"],
                tokens=given["granted"],
                limit=next(map(_limit, given["limits"]), None),
                backend=given["backend"],
            )

    async def give_back(self, lease: str, unspent: int) -> None:
        path = f"{PREFIX}/leases/{quote(lease, safe='')}?unspent={unspent}"
        _good(await self._call("DELETE", path, None, within_s=ASIDE_S))

    async def debit(self, policy: str, subject: ports.Subject, tokens: int) -> ports.Limit | None:
        told = {
            "policy": policy,
            "subject": dict([subject]),
            "cost": tokens,
            "reason": REASON,
        }
        answer = await self._call("POST", f"{PREFIX}/penalize", told, within_s=ASIDE_S)
        with _Reading():
            return next(map(_limit, _good(answer).json()["limits"]), None)

    async def policies(self) -> list[ports.Policy]:
        found: list[ports.Policy] = []
        path: str | None = f"{PREFIX}/policies?limit=200"
        while path is not None:
            answer = await self._call("GET", path, None, within_s=ASIDE_S)
            with _Reading():
                page = _good(answer).json()
                found += filter(None, map(_policy, page["items"]))
                cursor = page.get("next_cursor")
            path = f"{PREFIX}/policies?limit=200&cursor={cursor}" if cursor else None
        return found

    async def close(self) -> None:
        await self._ask.close()

    async def _check_many(
        self, demands: Sequence[ports.Demand]
    ) -> Sequence[ports.Decision | errors.Fault]:
        asked = {"items": [_item(each) for each in demands]}
        answer = await self._call("POST", CHECK_PATH, asked, within_s=BUDGET_S)
        if 400 <= answer.status < 500 and len(demands) > 1:
            # One of them spoils the call for all: let each speak for itself.
            return [await self._check_one(each) for each in demands]
        with _Reading():
            found = [_decision(each) for each in _good(answer).json()["results"]]
        if len(found) != len(demands):
            raise errors.Unavailable("ratelimit-service answered for another number of requests")
        return found

    async def _check_one(self, demand: ports.Demand) -> ports.Decision | errors.Fault:
        try:
            [found] = await self._check_many([demand])
        except errors.Fault as fault:
            return fault
        return found

    async def _call(self, method: str, path: str, said: Any, *, within_s: float) -> Answer:
        """There is no other limiter, so the ramp after an outage does not hold it back."""
        order = ports.Order(
            method=method,
            path=path,
            headers=JSON if said is not None else (),
            body=orjson.dumps(said) if said is not None else None,
            timeout_s=within_s,
            is_own=True,
        )
        answer = await self._upstream.call(order, essential=True)
        if answer.status >= 500:
            raise errors.Unavailable(f"ratelimit-service answered {answer.status}")
        return answer


class _Reading:
    """What cannot be read is no answer."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, orjson.JSONDecodeError | KeyError | TypeError | ValueError):
            raise errors.Unavailable("ratelimit-service answered something else") from error


def _good(answer: Answer) -> Answer:
    """Raises Invalid for what it does not want to hear: that says nothing about how it is."""
    if not 200 <= answer.status < 300:
        raise errors.Invalid(f"ratelimit-service answered {answer.status}")
    return answer


def _item(demand: ports.Demand) -> dict[str, Any]:
    subject = {"shop": demand.shop, "ip": demand.address, "user": demand.key_id}
    return {
        "subject": {name: value for name, value in subject.items() if value is not None},
        "policies": list(demand.policies),
        "mode": "consume" if demand.takes else "peek",
    }


def _decision(given: dict[str, Any]) -> ports.Decision:
    wait_ms = given.get("retry_after_ms") or given.get("wait_ms") or 0
    return ports.Decision(
        allowed=given["allowed"],
        limits=tuple(map(_limit, given["limits"])),
        retry_after_s=wait_ms / 1000,
        backend=given["backend"],
        degraded=admission.degraded(given["backend"]),
    )


def _limit(given: dict[str, Any]) -> ports.Limit:
    return ports.Limit(
        policy=given["policy"],
        burst=given["limit"],
        remaining=given["remaining"],
        window_s=given["window_s"],
        reset_s=given["reset_ms"] / 1000,
        violated=given.get("violated", False) and not given.get("shadow", False),
        shadow=given.get("shadow", False),
    )


def _policy(given: dict[str, Any]) -> ports.Policy | None:
    """None for what is not counted by checks."""
    algorithm = given["algorithm"]
    rate = _RATE.fullmatch(str(given["rate"] if algorithm == "gcra" else given.get("limit")))
    if rate is None:
        return None
    count, periods, unit = int(rate[1]), int(rate[2] or 1), rate[3]
    is_strict = given.get("consistency") == "strict"
    return ports.Policy(
        id=given["id"],
        kind=given["key"],
        burst=given["burst"] if algorithm == "gcra" else count,
        t_us=-(-periods * _UNIT_S[unit] * 1_000_000 // count),
        shadow=given["shadow"],
        is_leasable=algorithm == "gcra" and not given["shadow"],
        on_failure="closed" if is_strict else given["on_failure"],
        max_degraded_s=0.0 if is_strict else given["max_degraded_s"],
    )
