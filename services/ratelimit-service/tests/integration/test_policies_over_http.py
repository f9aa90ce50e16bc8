"""Policies: seeded, changed live, and what they were stays spent."""

from typing import Any

import pytest

from testkit.signals import eventually

SENDER = {"sender": "+306900000000"}


async def test_the_seeds_are_there_and_a_list_has_pages(service: Any) -> None:
    first = (await service.call("GET", "/policies?limit=6")).body
    rest = (await service.call("GET", f"/policies?limit=6&cursor={first['next_cursor']}")).body
    assert rest["next_cursor"] is None
    assert [each["id"] for each in first["items"] + rest["items"]] == [
        "api", "api-ip", "api-key", "exports", "login", "shopify-gql", "shopify-rest", "sms-brand",
        "sms-sender", "webhook-in",
    ]  # fmt: skip
    sender = (await service.call("GET", "/policies/sms-sender")).body
    assert (sender["rate"], sender["burst"], sender["unit"]) == ("100/s", 200, "segments")


async def test_a_changed_policy_is_in_force_here_at_once_and_soon_elsewhere(start: Any) -> None:
    here, there = await start(), await start()
    before = (await here.call("GET", "/policies/sms-sender")).body
    changed = await here.put("sms-sender", key="sender", rate="1/s", burst=10, unit="segments")
    assert changed["version"] > before["version"]
    assert (await here.check("sms-sender", subject=SENDER))["limits"][0]["limit"] == 10

    async def followed() -> bool:
        decision = await there.check("sms-sender", subject=SENDER, mode="peek")
        return bool(decision["limits"][0]["limit"] == 10)

    await eventually(followed, within_s=6)


async def test_an_equal_put_is_no_change(service: Any) -> None:
    spec = {"key": "shop", "rate": "5/s", "burst": 5}
    first = await service.put("mine", **spec)
    again = await service.call("PUT", "/policies/mine", spec)
    assert again.body["version"] == first["version"]
    assert again.headers["ETag"] == f'"{first["version"]}"'


async def test_a_change_forgives_nothing_that_was_spent(service: Any) -> None:
    await service.put("mine", key="sender", rate="10/h", burst=100)
    await service.check("mine", subject=SENDER, cost=60)
    await service.put("mine", key="sender", rate="1/h", burst=50)
    [limit] = (await service.check("mine", subject=SENDER, mode="peek"))["limits"]
    assert (limit["limit"], limit["remaining"]) == (50, 0)
    await service.put("mine", key="sender", rate="1/h", burst=80)
    [limit] = (await service.check("mine", subject=SENDER, mode="peek"))["limits"]
    # The first change clamped the debt to 50, but only what took from the bucket wrote it down.
    assert limit["remaining"] == 20


async def test_a_deleted_policy_is_404_and_stays_deleted_when_a_replica_starts(
    start: Any,
) -> None:
    service = await start()
    assert (await service.call("DELETE", "/policies/login")).status == 204
    for method in ("DELETE", "GET"):
        reply = await service.call(method, "/policies/login")
        assert (reply.status, reply.body["code"]) == (404, "unknown_policy")
    later = await start()
    asked = {"policies": ["login"], "subject": {"ip": "192.0.2.1"}}
    assert (await later.call("POST", "/check", asked)).status == 404
    again = await later.put("login", key="ip", rate="1/s", burst=1)
    assert again["version"] > 8


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"key": "shop", "rate": "10001/s", "burst": 1}, "/rate"),
        ({"key": "shop", "rate": "0/s", "burst": 1}, "/rate"),
        ({"key": "shop", "rate": "1/w", "burst": 1}, "/rate"),
        ({"key": "shop", "rate": "1/s", "burst": 0}, "/burst"),
        ({"key": "shop", "rate": "1/100d", "burst": 1_000_000}, "/burst"),
        ({"key": "planet", "rate": "1/s", "burst": 1}, "/key"),
        ({"key": "shop", "rate": "1/s", "burst": 1, "default_cost": 2, "max_cost": 1},
         "/default_cost"),
        ({"key": "shop", "rate": "1/s", "burst": 1, "algorithm": "magic"}, "/algorithm"),
        ({"key": "shop", "rate": "1/s", "burst": 1, "colour": "red"}, "/colour"),
    ],
)  # fmt: skip
async def test_a_wrong_policy_is_422_at_its_place_and_not_stored(
    service: Any, spec: Any, pointer: str
) -> None:
    reply = await service.call("PUT", "/policies/wrong", spec)
    assert reply.status == 422
    assert [each["pointer"] for each in reply.body["errors"]] == [pointer]
    assert (await service.call("GET", "/policies/wrong")).status == 404


async def test_policies_need_their_scope_and_no_shop(service: Any) -> None:
    check = frozenset({"ratelimits:check"})
    reply = await service.call("GET", "/policies", scopes=check)
    assert (reply.status, reply.body["code"]) == (403, "missing_scope")
    reply = await service.call("GET", "/policies", shop="one")
    assert (reply.status, reply.body["code"]) == (403, "other_shop")


async def test_a_malformed_name_is_404(service: Any) -> None:
    assert (await service.call("GET", "/policies/No%20Name")).status == 404
