"""Whom a request is counted for, whatever its headers claim."""

from typing import Any

import pytest

CLAIMS = [
    {},
    {"X-Forwarded-For": "9.9.9.9"},
    {"X-Forwarded-For": "9.9.9.9, 8.8.8.8, 7.7.7.7"},
    {"X-Forwarded-For": "::ffff:9.9.9.9"},
    {"X-Forwarded-For": "[2001:db8::9]:1234"},
    {"X-Forwarded-For": ",,, ,"},
    {"Forwarded": "for=9.9.9.9;proto=https"},
    {"Forwarded": 'for="[2001:db8::9]", for=8.8.8.8'},
    {"X-Real-IP": "9.9.9.9", "True-Client-IP": "9.9.9.9", "CF-Connecting-IP": "9.9.9.9"},
    {"Mainstay-Shop": "another.myshopify.com"},
    {"Mainstay-Shop": "s", "X-Forwarded-For": "127.0.0.2"},
]


@pytest.mark.parametrize("trusted_hops", [0, 1, 2])
async def test_no_header_makes_a_fresh_bucket(make_gateway: Any, trusted_hops: int) -> None:
    """Behind proxies each appends whom it saw; what is before that is the caller's invention."""
    gateway = await make_gateway(trusted_hops=trusted_hops)
    seen = ["203.0.113.7", "10.0.0.8"][:trusted_hops]
    for claims in CLAIMS:
        appended = [part for part in (claims.get("X-Forwarded-For"), *seen) if part]
        headers = {**claims, "X-Forwarded-For": ", ".join(appended)}
        assert (await gateway.tell("GET", "/v1/jobs", key=None, headers=headers))[0] == 401
    subjects = {
        (tuple(check.policies), check.subject.model_dump_json())
        for check in gateway.owners.ratelimit.asked
    }
    assert len(subjects) == 1
    address = "203.0.113.7" if trusted_hops else "127.0.0.1"
    [check, *_] = gateway.owners.ratelimit.asked
    assert (check.policies, check.subject.ip, check.subject.shop) == (["api-ip"], address, None)


@pytest.mark.parametrize("spoken", ["s.myshopify.com", "S.MyShopify.COM", "  s.myshopify.com "])
async def test_a_shop_is_one_however_it_is_spelled(gateway: Any, spoken: str) -> None:
    key = await gateway.key("jobs:read")
    headers = {"Mainstay-Shop": spoken}
    assert (await gateway.tell("GET", "/v1/jobs", key=key, headers=headers))[0] == 200
    assert gateway.owners.ratelimit.asked[-1].subject.shop == "s.myshopify.com"


async def test_a_key_of_one_shop_spends_no_others_limits(gateway: Any) -> None:
    key = await gateway.key("jobs:read", shop="s.myshopify.com")
    headers = {"Mainstay-Shop": "other.myshopify.com"}
    status, body, _ = await gateway.tell("GET", "/v1/jobs", key=key, headers=headers)
    assert (status, body["code"]) == (403, "other_shop")
    assert gateway.owners.ratelimit.asked == []


async def test_one_ipv6_network_is_one_client_while_the_limiter_is_away(make_gateway: Any) -> None:
    gateway = await make_gateway(trusted_hops=1)
    await gateway.owners.ratelimit.stop()
    statuses = []
    for n in range(160):
        headers = {"X-Forwarded-For": f"2001:db8::{n:x}"}
        statuses.append((await gateway.tell("GET", "/v1/jobs", key=None, headers=headers))[0])
    assert set(statuses) == {401, 429}
    assert statuses.count(401) < 160
    headers = {"X-Forwarded-For": "2001:db8:0:1::1"}
    assert (await gateway.tell("GET", "/v1/jobs", key=None, headers=headers))[0] == 401
