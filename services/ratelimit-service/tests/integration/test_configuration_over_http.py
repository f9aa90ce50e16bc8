"""What operators set: in force here at once, elsewhere soon, never lost to another's change."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from contracts.ratelimits import OverridePut
from ratelimit_service import metrics
from ratelimit_service.app import CONFIGURATION, DATABASE, READING, TABLE
from ratelimit_service.core.configuration import Kind, Place
from ratelimit_service.core.policies import PolicyTable
from ratelimit_service.core.reading import Reading
from testkit.signals import eventually

SHOP = "spring-garden.myshopify.com"
PAST, FAR = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
SPEC = {"key": "shop", "rate": "1/s", "burst": 10}
PLAN = {"policies": {"api": {"rate": "50/s", "burst": 500}}}
# One of each, and another that differs from it.
SETTINGS = {
    "/policies/mine": (SPEC, SPEC | {"burst": 11}),
    f"/overrides/{SHOP}/api": ({"burst": 7, "reason": "a sale"}, {"burst": 8}),
    "/plans/plus": (PLAN, {"policies": {}}),
    f"/shops/{SHOP}/plan": ({"plan": "basic"}, {"plan": "gold"}),
    "/lists/deny": ({"items": [{"subject": "192.0.2.0/24"}]}, {"items": []}),
}


@pytest_asyncio.fixture
async def database(service: Any) -> AsyncIterator[asyncpg.Connection]:
    async with service.app[DATABASE].connection() as connection:
        yield connection


async def put(service: Any, path: str, said: Any, **headers: str) -> Any:
    reply = await service.call(
        "PUT", path, said, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )
    assert reply.status == 200, reply.raw
    return reply.body


async def with_plans(service: Any) -> None:
    for name in ("basic", "gold"):
        await put(service, f"/plans/{name}", PLAN)


async def limit(service: Any, policy: str = "api", **subject: Any) -> Any:
    subject = {"shop": SHOP, "ip": "192.0.2.1", **subject}
    return (await service.check(policy, subject=subject, mode="peek"))["limits"][0]["limit"]


@pytest.mark.parametrize("path", SETTINGS)
async def test_a_change_names_the_version_that_it_replaces(service: Any, path: str) -> None:
    await with_plans(service)
    said, other = SETTINGS[path]
    made = await service.call("PUT", path, said, headers={"If-None-Match": "*"})
    assert made.status == 200, made.raw
    etag = made.headers["ETag"]
    assert etag == f'"{made.body["version"]}"'
    again = await service.call("PUT", path, said, headers={"If-Match": etag})
    assert (again.headers["ETag"], again.body) == (etag, made.body), "an equal one is no change"

    async def refused(method: str, **headers: str) -> None:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        reply = await service.call(method, path, other if method == "PUT" else None, headers=named)
        assert (reply.status, reply.body["code"]) == (412, "version_conflict"), reply.raw
        assert (await service.call("GET", path)).body == made.body

    await refused("PUT", If_None_Match="*")
    await refused("PUT", If_Match='"1000000"')
    await refused("DELETE", If_Match='"1000000"')
    changed = await service.call("PUT", path, other, headers={"If-Match": etag})
    assert changed.status == 200
    assert changed.body["version"] > made.body["version"]
    repeat = await service.call("PUT", path, other, headers={"If-Match": etag})
    assert (repeat.status, repeat.body) == (200, changed.body), "its first answer was lost"
    late = await service.call("PUT", path, said, headers={"If-Match": etag})
    assert late.status == 412
    gone = await service.call("DELETE", path, headers={"If-Match": changed.headers["ETag"]})
    assert gone.status == 204
    if not path.startswith("/lists"):
        assert (await service.call("GET", path)).status == 404
        assert (await service.call("DELETE", path)).status == 404
        missing = await service.call("PUT", path, said, headers={"If-Match": "*"})
        assert missing.status == 412


async def test_of_many_who_change_the_same_version_one_succeeds(service: Any) -> None:
    made = await put(service, "/policies/mine", SPEC)
    tries = [
        service.call(
            "PUT", "/policies/mine", SPEC | {"burst": 20 + n},
            headers={"If-Match": f'"{made["version"]}"'},
        )
        for n in range(8)
    ]  # fmt: skip
    statuses = [reply.status for reply in await asyncio.gather(*tries)]
    assert sorted(statuses) == [200] + [412] * 7


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
async def test_a_precondition_that_is_none_is_422(service: Any, header: str) -> None:
    for given in ("17", 'W/"17"', '"a"', '"1", "2"'):
        reply = await service.call("PUT", "/policies/mine", SPEC, headers={header: given})
        assert reply.status == 422
    assert (await service.call("GET", "/policies/mine")).status == 404


async def test_plans_and_overrides_are_in_force_here_at_once_and_soon_elsewhere(start: Any) -> None:
    here, there = await start(), await start()

    async def follows(wanted: int) -> None:
        assert await limit(here) == wanted

        async def followed() -> bool:
            return bool(await limit(there) == wanted)

        await eventually(followed, within_s=6)

    await put(here, "/plans/plus", PLAN)
    await put(here, f"/shops/{SHOP}/plan", {"plan": "plus"})
    await follows(500)
    assert (await there.call("GET", f"/shops/{SHOP}/usage")).body["plan"] == "plus"
    await put(here, f"/overrides/{SHOP}/api", {"burst": 7})
    await follows(7)
    assert await limit(there, shop_verified=False) == 100, "nobody vouches for it"
    assert await limit(there, shop="other") == 100
    await here.call("DELETE", f"/overrides/{SHOP}/api")
    await follows(500)
    await here.call("DELETE", f"/shops/{SHOP}/plan")
    await follows(100)


async def test_what_was_spent_stays_spent_when_an_override_comes_and_goes(service: Any) -> None:
    await put(service, "/policies/mine", SPEC | {"rate": "1/h"})
    await service.check("mine", subject={"shop": SHOP}, cost=4)

    async def left() -> Any:
        return (await service.check("mine", subject={"shop": SHOP}))["limits"][0]["remaining"]

    await put(service, f"/overrides/{SHOP}/mine", {"burst": 20})
    assert await left() == 15
    await service.call("DELETE", f"/overrides/{SHOP}/mine")
    assert await left() == 4
    await put(service, f"/overrides/{SHOP}/mine", {"burst": 100})
    assert await left() == 93


async def test_overrides_have_pages_and_are_found_by_shop(service: Any) -> None:
    for shop in ("a", "b", "c"):
        for policy in ("api", "login"):
            await put(service, f"/overrides/{shop}/{policy}", {"max_cost": 9, "expires_at": FAR})
    seen: list[Any] = []
    path = "/overrides?limit=4"
    while path:
        page = (await service.call("GET", path)).body
        seen += [(each["shop"], each["policy"]) for each in page["items"]]
        more = page["next_cursor"]
        path = f"/overrides?limit=4&cursor={more}" if more else ""
    assert seen == [(shop, policy) for shop in ("a", "b", "c") for policy in ("api", "login")]
    [one, two] = (await service.call("GET", "/overrides?shop=B")).body["items"]
    assert (one["shop"], one["change"], one["author"]) == ("b", {"max_cost": 9}, "k")
    assert (two["policy"], two["expires_at"]) == ("login", FAR)


async def test_an_override_that_has_run_out_is_gone(service: Any, database: Any) -> None:
    await put(service, f"/overrides/{SHOP}/api", {"burst": 7, "expires_at": FAR})
    await database.execute(
        "update configuration set document = document || $1, version = nextval('policy_version')",
        {"expires_at": PAST},
    )
    await service.app[READING].run()
    assert await limit(service) == 100
    path = f"/overrides/{SHOP}/api"
    assert (await service.call("GET", path)).status == 404
    assert (await service.call("DELETE", path)).status == 404
    assert (await service.call("GET", "/overrides")).body["items"] == []
    await put(service, path, {"burst": 8}, If_None_Match="*")
    assert await limit(service) == 8


LONG = {"items": [{"subject": f"s{n}"} for n in range(10_001)]}


BAD: list[tuple[str, Any, str]] = [
    ("/overrides/a/api", {"rate": "0/s"}, "/rate"),
    ("/overrides/a/api", {"rate": "20000/s"}, "/rate"),
    ("/overrides/a/api", {"burst": 0}, "/burst"),
    ("/overrides/a/api", {"limit": 5}, "/limit"),
    ("/overrides/a/api", {"lease_s": 5}, "/lease_s"),
    ("/overrides/a/api", {"default_cost": 5, "max_cost": 2}, "/default_cost"),
    ("/overrides/a/api", {"floors": {"batch": 0.999}}, "/floors/batch"),
    ("/overrides/a/api", {"burst": 5, "expires_at": PAST}, "/expires_at"),
    ("/overrides/a/api", {"burst": 5, "expires_at": "2099-01-01T00:00:00"}, "/expires_at"),
    ("/overrides/a/api", {"reason": "none"}, ""),
    ("/overrides/a/api", {"key": "ip"}, "/key"),
    ("/overrides/a/api-ip", {"burst": 5}, ""),
    ("/overrides/on-basic/api", {"rate": "1/30d"}, "/burst"),
    ("/plans/x", {"policies": {"nothing": {"burst": 5}}}, "/policies/nothing"),
    ("/plans/x", {"policies": {"api-ip": {"burst": 5}}}, "/policies/api-ip"),
    ("/plans/x", {"policies": {"api": {"rate": "20000/s"}}}, "/policies/api/rate"),
    ("/plans/x", {"policies": {"api": {"limit": "5/d"}}}, "/policies/api/limit"),
    ("/plans/x", {"policies": {"NO": {}}}, "/policies/NO/[key]"),
    ("/plans/x", {}, "/policies"),
    ("/shops/a/plan", {"plan": "nothing"}, "/plan"),
    ("/shops/a/plan", {"plan": None}, "/plan"),
    ("/lists/deny", {"items": [{"subject": "s"}, {"subject": "10.0.0.300"}]},
     "/items/1/subject"),
    ("/lists/deny", {"items": [{"subject": "s"}, {"subject": "S"}]}, "/items/1/subject"),
    ("/lists/deny", {"items": [{"subject": ""}]}, "/items/0/subject"),
    ("/lists/deny", LONG, "/items"),
]  # fmt: skip


async def test_bad_input_is_422_at_its_place_and_changes_nothing(
    service: Any, database: Any
) -> None:
    await put(service, "/plans/basic", {"policies": {"api": {"burst": 1_000_000}}})
    await put(service, "/shops/on-basic/plan", {"plan": "basic"})
    before = await database.fetchval("select last_value from policy_version")
    for path, said, pointer in BAD:
        reply = await service.call("PUT", path, said)
        assert reply.status == 422, (path, said, reply.raw)
        assert pointer in reply.pointers, (path, said)
    assert await database.fetchval("select last_value from policy_version") == before
    assert await database.fetchval("select count(*) from audit") == 2


async def test_a_policy_that_its_plans_and_overrides_do_not_fit_is_refused(service: Any) -> None:
    await put(service, "/policies/mine", SPEC)
    await put(service, f"/overrides/{SHOP}/mine", {"rate": "5/s"})
    quota = {"key": "shop", "algorithm": "fixed", "limit": "5/d"}
    reply = await service.call("PUT", "/policies/mine", quota)
    assert (reply.status, reply.pointers) == (422, ["/rate"])
    assert SHOP in reply.body["detail"]
    await service.call("DELETE", f"/overrides/{SHOP}/mine")
    await put(service, "/plans/plus", {"policies": {"mine": {"burst": 5}}})
    reply = await service.call("PUT", "/policies/mine", quota)
    assert (reply.status, reply.pointers) == (422, ["/burst"])
    await put(service, "/plans/plus", {"policies": {}})
    await put(service, "/policies/mine", quota)


async def test_what_others_refer_to_is_not_removed(service: Any) -> None:
    await put(service, "/policies/mine", SPEC)
    await put(service, "/plans/plus", {"policies": {"mine": {"burst": 5}}})
    await put(service, f"/overrides/{SHOP}/mine", {"burst": 6})
    await put(service, f"/shops/{SHOP}/plan", {"plan": "plus"})

    async def refused(path: str) -> None:
        reply = await service.call("DELETE", path)
        assert (reply.status, reply.body["code"]) == (409, "in_use"), reply.raw

    await refused("/policies/mine")
    await refused("/plans/plus")
    assert (await service.call("DELETE", f"/shops/{SHOP}/plan")).status == 204
    assert (await service.call("DELETE", "/plans/plus")).status == 204
    await refused("/policies/mine")
    assert (await service.call("DELETE", f"/overrides/{SHOP}/mine")).status == 204
    assert (await service.call("DELETE", "/policies/mine")).status == 204


async def test_an_override_of_no_policy_and_malformed_names_are_404(service: Any) -> None:
    reply = await service.call("PUT", "/overrides/a/nothing", {"burst": 5})
    assert (reply.status, reply.body["code"]) == (404, "unknown_policy")
    for path in ("/overrides/a/No%20Name", "/plans/No%20Name", "/lists/grey", "/overrides/%20/api"):
        assert (await service.call("GET", path)).status == 404


async def test_no_key_of_a_shop_reads_or_changes_a_setting(service: Any) -> None:
    for path in (*SETTINGS, "/policies", "/overrides", f"/overrides?shop={SHOP}", "/plans"):
        methods = ("GET", "PUT", "DELETE") if path in SETTINGS else ("GET",)
        for method in methods:
            said = SETTINGS[path][0] if method == "PUT" else None
            reply = await service.call(method, path, said, shop=SHOP)
            assert (reply.status, reply.body["code"]) == (403, "other_shop"), (method, path)
            reply = await service.call(method, path, said, scopes=frozenset({"ratelimits:check"}))
            assert (reply.status, reply.body["code"]) == (403, "missing_scope"), (method, path)


async def test_who_is_denied_may_nothing_and_who_is_allowed_is_not_counted(start: Any) -> None:
    here, there = await start(), await start()
    allowed = {"items": [{"subject": "good"}]}
    denied = {"items": [{"subject": "192.0.2.0/24", "reason": "abuse"}, {"subject": "BAD"}]}
    await put(here, "/lists/allow", allowed)
    await put(here, "/lists/deny", denied)
    await put(here, "/policies/tight", {"key": "shop_or_ip", "rate": "1/h", "burst": 2})
    for _ in range(3):
        decision = await here.check("tight", subject={"shop": "good"})
        assert (decision["allowed"], decision["listed"], decision["limits"]) == (True, "allow", [])
    decision = await here.check("tight", subject={"shop": "bad"})
    assert (decision["allowed"], decision["listed"], decision["limits"]) == (False, "deny", [])
    assert decision["retry_after_ms"] is None
    near = {"shop": "claimed", "shop_verified": False, "ip": "192.0.2.9"}
    assert (await here.check("tight", subject=near))["listed"] == "deny"

    async def followed() -> bool:
        decision = await there.check("api", subject={"shop": "bad"}, mode="peek")
        return bool(decision["listed"] == "deny")

    await eventually(followed, within_s=6)
    reserved = await here.call("POST", "/reserve", {"policies": ["tight"], "subject": near})
    assert (reserved.body["allowed"], reserved.body["token"]) == (False, None)
    refused = await here.call("POST", "/enforce", {"policies": ["tight"], "subject": near})
    assert (refused.status, refused.body["code"]) == (403, "denied_by_list")
    assert refused.headers["Mainstay-Backend"] == "local"
    passed = await here.call(
        "POST", "/enforce", {"policies": ["tight"], "subject": {"shop": "good"}}
    )
    assert passed.status == 204
    assert "RateLimit" not in passed.headers
    permit = {"policy": "exports", "subject": {"shop": "bad"}}
    refused = await here.call("POST", "/permits", permit)
    assert (refused.status, refused.body["code"]) == (403, "denied_by_list")
    unknown = {"policies": ["nothing"], "subject": {"shop": "bad"}}
    assert (await here.call("POST", "/check", unknown)).status == 404
    assert (await here.call("DELETE", "/lists/allow")).status == 204
    assert (await here.check("tight", subject={"shop": "good"}))["limits"][0]["remaining"] == 1


async def test_a_batch_asks_limits_for_those_whom_no_list_decides(service: Any) -> None:
    await put(service, "/lists/allow", {"items": [{"subject": "good"}]})
    await put(service, "/lists/deny", {"items": [{"subject": "bad"}]})
    await put(service, "/policies/tight", {"key": "shop", "rate": "1/h", "burst": 2})

    async def batch(*shops: str, atomic: bool = False) -> list[Any]:
        items = [{"policies": ["tight"], "subject": {"shop": shop}} for shop in shops]
        reply = await service.call("POST", "/check:batch", {"items": items, "atomic": atomic})
        assert reply.status == 200, reply.raw
        results: list[Any] = reply.body["results"]
        return results

    results = await batch("good", "one", "bad", "one", "one")
    assert [each["allowed"] for each in results] == [True, True, False, True, False]
    assert [each["listed"] for each in results] == ["allow", None, "deny", None, None]
    assert [each["allowed"] for each in await batch("two", "bad", atomic=True)] == [False] * 2
    assert [each["allowed"] for each in await batch("two", "good", atomic=True)] == [True] * 2
    [left] = await batch("two")
    assert left["limits"][0]["remaining"] == 0, "the batch with one who is denied took nothing"


async def test_what_cannot_be_read_is_told_and_what_was_in_force_stays(
    service: Any, database: Any
) -> None:
    await put(service, f"/overrides/{SHOP}/api", {"burst": 7})
    await put(service, "/policies/mine", SPEC)
    await database.execute(
        "update configuration set document = $1, version = nextval('policy_version')",
        {"burst": "many"},
    )
    await database.execute(
        "update policy set spec = spec - 'key', version = nextval('policy_version') where id = $1",
        "mine",
    )
    reading = service.app[READING]
    for begins_anew in (False, True):
        if begins_anew:
            reading.begin_anew()
        await reading.run()
        assert len(reading.flawed) == 2
        assert await limit(service) == 7
        assert await limit(service, "mine") == 10
    assert (await service.call("GET", "/policies/mine")).status == 500
    await put(service, f"/overrides/{SHOP}/api", {"burst": 9})
    await put(service, "/policies/mine", SPEC | {"burst": 12})
    await reading.run()
    assert not reading.flawed
    assert (await limit(service), await limit(service, "mine")) == (9, 12)


async def test_a_change_reads_what_has_changed_and_no_more(service: Any, database: Any) -> None:
    await put(service, "/plans/plus", PLAN)
    await database.execute(
        "insert into configuration (kind, scope, name, document, author)"
        " select 'shop', 'shop-' || n, 'plan', $1, 'k' from generate_series(1, 5000) n",
        {"plan": "plus"},
    )
    read: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(service.app[CONFIGURATION], name)

        async def since(self, version: int, *, limit: int) -> Any:
            found = await service.app[CONFIGURATION].since(version, limit=limit)
            read.append(len(found))
            return found

    table = PolicyTable()
    reading = Reading(store=Counting(), table=table, unreadable=lambda *_: None)
    await reading.run()
    assert sum(read) > 5000
    assert max(read) <= 500, "no more than that at once"
    assert table.plan_of("shop-5000") == "plus"
    read.clear()
    await put(service, "/shops/shop-1/plan", {"plan": "plus"})
    await put(service, f"/overrides/{SHOP}/api", {"burst": 7})
    await reading.run()
    assert read == [1], "an equal plan is no change"
    assert table.overrides == 1


async def test_whoever_has_seen_a_version_has_seen_all_before_it(
    service: Any, database: Any
) -> None:
    store = service.app[CONFIGURATION]
    table = PolicyTable()
    reading = Reading(store=store, table=table, unreadable=lambda *_: None)
    waiting = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
    async with store.writing() as desk:
        place = Place(Kind.OVERRIDE, "slow", "api")
        await desk.put(place, OverridePut(burst=5), author="k")
        later = asyncio.create_task(put(service, "/overrides/quick/api", {"burst": 6}))

        async def is_held_up() -> bool:
            return later.done() or bool(await database.fetchval(waiting))

        await eventually(is_held_up)
        await reading.run()
    await later
    await reading.run()
    assert table.overrides == 2


async def test_a_database_that_was_set_back_is_read_anew(service: Any, database: Any) -> None:
    await put(service, f"/overrides/{SHOP}/api", {"burst": 7})
    await service.app[READING].run()
    await database.execute("delete from configuration")
    await database.execute("select setval('policy_version', 1)")
    await service.app[READING].run()
    assert service.app[TABLE].overrides == 0
    assert await limit(service) == 100


async def test_it_is_written_down_who_changed_what(service: Any, database: Any) -> None:
    path = f"/overrides/{SHOP}/api"
    await put(service, path, {"burst": 7, "reason": "a sale"})
    await put(service, path, {"burst": 7, "reason": "a sale"})
    await put(service, path, {"burst": 8})
    await service.call("DELETE", path)
    await put(service, "/lists/deny", {"items": [{"subject": "a"}, {"subject": "b"}]})
    await put(service, "/lists/deny", {"items": [{"subject": "b"}, {"subject": "c"}]})
    rows = await database.fetch("select * from audit order by id")
    assert {row["author"] for row in rows} == {"k"}
    first, second = {"burst": 7, "reason": "a sale"}, {"burst": 8}
    assert [(row["action"], row["before"], row["after"]) for row in rows[:3]] == [
        ("override.create", None, first),
        ("override.change", first, second),
        ("override.delete", second, None),
    ]
    assert rows[0]["subject"] == f"{SHOP}/api"
    came, went = {"items": [{"subject": "c"}]}, {"items": [{"subject": "a"}]}
    assert (rows[4]["before"], rows[4]["after"]) == (went, came)


async def test_the_loop_says_what_it_has_read(service: Any) -> None:
    await put(service, f"/overrides/{SHOP}/api", {"burst": 7})
    await eventually(lambda: metrics.OVERRIDES._value.get() == 1, within_s=6)
    assert metrics.CONFIGURATION_UNREADABLE._value.get() == 0
