"""How much may come in, by ratelimit-service's word and without it."""

from typing import Any

from testkit.signals import eventually


async def test_a_refusal_says_which_limit_and_when_to_come_again(gateway: Any) -> None:
    limits = gateway.owners.ratelimit
    key = await gateway.key("jobs:read", shop="s.myshopify.com")
    assert (await gateway.tell("GET", "/v1/jobs", key=key))[0] == 200
    asked = limits.asked[-1]
    assert asked.policies == ["api-key", "api"]
    assert asked.subject.shop == "s.myshopify.com"
    assert key[4:12] == asked.subject.user
    limits.refused = {"api"}
    before = len(gateway.owners.queue.calls)
    status, body, headers = await gateway.tell("GET", "/v1/jobs", key=key)
    assert (status, body["code"], body["retryable"]) == (429, "rate_limited", True)
    assert headers["RateLimit"] == '"api";r=0;t=2'
    assert headers["RateLimit-Policy"] == '"api";q=100;w=10'
    assert headers["Retry-After"] == "2"
    assert len([call for call in gateway.owners.queue.calls[before:] if "jobs" in call[1]]) == 0


async def test_keys_of_operators_are_exempt(gateway: Any) -> None:
    gateway.owners.ratelimit.refused = {"api-key", "api", "api-ip"}
    assert (await gateway.tell("GET", "/v1/jobs"))[0] == 200
    assert (await gateway.tell("GET", "/v1/jobs", key=None))[0] == 429


async def test_the_gateway_limits_by_itself_while_its_limiter_is_away(gateway: Any) -> None:
    limits = gateway.owners.ratelimit
    limits.burst = 5
    key = await gateway.key("jobs:read", shop="s.myshopify.com")
    first = await gateway.tell("GET", "/v1/jobs", key=key)
    assert "Degraded" not in first[2]
    await limits.stop()
    answers = [await gateway.tell("GET", "/v1/jobs", key=key) for _ in range(8)]
    assert [status for status, _, _ in answers][:5] == [200] * 5
    assert answers[0][2]["Degraded"] == "limits;local"
    refused = [answer for answer in answers if answer[0] == 429]
    assert refused
    assert refused[0][2]["Degraded"] == "limits;local"
    assert '"api' in refused[0][2]["RateLimit"]

    async def is_told() -> bool:
        system = (await gateway.tell("GET", "/v1/system"))[1]
        return bool(system["roads"]["limits"] == "local")

    await eventually(is_told)


async def test_a_frozen_limiter_costs_little(gateway: Any) -> None:
    import asyncio

    key = await gateway.key("jobs:read")
    gateway.owners.ratelimit.freeze()
    loop = asyncio.get_running_loop()
    for _ in range(4):
        started = loop.time()
        status, _, headers = await gateway.tell("GET", "/v1/jobs", key=key)
        assert (status, headers["Degraded"]) == (200, "limits;local")
        assert loop.time() - started < 0.5
