"""Admission by the gateway before a real ratelimit-service."""

import re
import time

import aiohttp

from testkit.signals import eventually
from testkit.stack import StackProcess

SHOP = "busy.myshopify.com"
BURST, PER_S = 100, 10


async def moved(stack: StackProcess, what: str) -> float:
    """Tokens that the gateway has leased, returned, debited or lost so far."""
    found = re.findall(
        rf'gateway_limit_tokens_total{{what="{what}"}} (\S+)', await stack.metrics("gateway")
    )
    return sum(map(float, found))


async def a_key(stack: StackProcess) -> str:
    made = {"name": "e2e", "scopes": ["jobs:read"], "shop": SHOP}
    async with stack.session() as session, session.post("/v1/keys", json=made) as answer:
        assert answer.status == 201
        return str((await answer.json())["key"])


async def test_a_busy_shop_is_let_in_by_leases_to_its_limit_and_what_is_left_goes_back(
    stack: StackProcess,
) -> None:
    headers = {"Authorization": f"Bearer {await a_key(stack)}"}
    leased = await moved(stack, "leased")
    started = time.monotonic()
    statuses: list[int] = []
    async with aiohttp.ClientSession(stack.gateway_url, headers=headers) as session:
        while statuses.count(429) < 50:
            async with session.get("/v1/queues") as answer:
                statuses.append(answer.status)
                if answer.status == 429:
                    assert '"api";r=0' in answer.headers["RateLimit"]
                    assert int(answer.headers["Retry-After"]) >= 1
    elapsed_s = time.monotonic() - started
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= BURST + PER_S * elapsed_s + 1
    assert await moved(stack, "leased") > leased

    async def holds_nothing() -> bool:
        return "\ngateway_limit_leased 0.0\n" in await stack.metrics("gateway")

    await eventually(holds_nothing, 10)
    async with stack.client() as client:
        left = (await client.peek("api", shop=SHOP)).limits[0].remaining
    assert left <= PER_S * (time.monotonic() - started) + BURST - statuses.count(200) + 1
