"""Every way to come by tokens, over HTTP and by loops, before a Shopify of the test's own."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from chassis.kernel import errors
from session_service.app import DATABASE, GRANTS
from session_service.core.grants import Code, Exchange, Refresh
from testkit.clock import FakeClock
from testkit.shopify.apps import session, settings, works
from testkit.shopify.faults import Fault
from testkit.shopify.server import MockShopify

SHOP = "greek-olives.myshopify.com"
ID = f"offline_{SHOP}"
PATH = f"/v1/sessions/{ID}"
TOKEN = f"/v1/shops/{SHOP}/token"
REJECT = f"{TOKEN}/reject"
DAY_MS = 86_400_000
ADMIN = frozenset({"admin"})


async def put(service: Any, document: dict[str, Any]) -> int:
    answer = await service.call("PUT", f"/v1/sessions/{document['id']}", document)
    assert answer.status == 200, answer.raw
    return int(answer.body["version"])


def asked(shopify: MockShopify, shop: str | None = SHOP) -> list[str]:
    return [call.detail for call in shopify.called("token", shop)]


async def test_a_code_brings_the_first_pair(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    grant = Code(code=shopify.code(SHOP), state="of the browser")
    stored = await service.app[GRANTS].obtain(ID, SHOP, grant)
    assert works(shopify, SHOP, stored.tokens.access)
    document = (await service.get(PATH)).body
    assert (document["id"], document["shop"], document["isOnline"]) == (ID, SHOP, False)
    assert document["state"] == "of the browser"
    assert document["scope"] == "write_products"
    assert {"accessToken", "refreshToken", "expires", "refreshTokenExpires"} <= set(document)


async def test_a_code_for_a_member_of_staff_is_stored_under_their_id(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    for _ in range(2):
        grant = Code(code=shopify.code(SHOP, user_id=7), is_online=True)
        await service.app[GRANTS].obtain(f"online_{SHOP}", SHOP, grant)
    document = (await service.get(f"/v1/sessions/{SHOP}_7")).body
    assert document["isOnline"] is True
    assert document["onlineAccessInfo"]["associated_user"]["id"] == 7
    assert document["onlineAccessInfo"]["associated_user_scope"] == "write_products"
    assert "refreshToken" not in document
    answer = await service.get(f"{TOKEN}?mode=online&user_id=7")
    assert works(shopify, SHOP, answer.body["access_token"])
    listed = await service.get(f"/v1/shops/{SHOP}/sessions")
    assert [each["id"] for each in listed.body["items"]] == [f"{SHOP}_7"]


async def test_a_token_of_the_other_mode_is_stored_nowhere(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    for code, is_online in ((shopify.code(SHOP, user_id=7), False), (shopify.code(SHOP), True)):
        with pytest.raises(errors.Unavailable):
            grant = Code(code=code, is_online=is_online)
            await service.app[GRANTS].obtain(ID, SHOP, grant)
    assert (await service.get(f"/v1/shops/{SHOP}/sessions")).body["items"] == []


async def test_a_code_that_was_used_brings_nothing_and_harms_nothing(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    code = shopify.code(SHOP)
    await service.app[GRANTS].obtain(ID, SHOP, Code(code=code))
    with pytest.raises(errors.Conflict) as raised:
        await service.app[GRANTS].obtain(ID, SHOP, Code(code=code))
    assert raised.value.code == "reauth_required"
    answer = await service.get(TOKEN)
    assert works(shopify, SHOP, answer.body["access_token"])


async def test_an_exchange_is_left_out_when_a_good_token_is_there(
    start: Any, shopify: MockShopify
) -> None:
    replicas = [await start(**settings(shopify)), await start(**settings(shopify))]
    await asyncio.gather(
        *(
            replica.app[GRANTS].obtain(
                ID, SHOP, Exchange(session_token=shopify.session_token(SHOP, user_id=user))
            )
            for replica in replicas
            for user in range(1, 6)
        )
    )
    assert asked(shopify) == ["exchange"]
    answer = await replicas[0].get(TOKEN)
    assert works(shopify, SHOP, answer.body["access_token"])


async def test_a_session_token_that_is_not_good_is_said_to_be_so(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    old = shopify.session_token(SHOP, exp=1_700_000_000, nbf=1_700_000_000)
    with pytest.raises(errors.Unauthenticated) as raised:
        await service.app[GRANTS].obtain(ID, SHOP, Exchange(session_token=old))
    assert raised.value.code == "invalid_session_token"
    assert raised.value.headers == {"X-Shopify-Retry-Invalid-Session-Request": "1"}
    shopify.uninstall(SHOP)
    with pytest.raises(errors.Conflict):
        good = shopify.session_token(SHOP)
        await service.app[GRANTS].obtain(ID, SHOP, Exchange(session_token=good))


async def test_a_refused_token_is_renewed_once_for_all_who_say_so(
    start: Any, shopify: MockShopify
) -> None:
    replicas = [await start(**settings(shopify)), await start(**settings(shopify))]
    version = await put(replicas[0], session(shopify, SHOP))
    shopify.faults.add(Fault(delay_s=0.2))
    answers = await asyncio.gather(
        *(replicas[n % 2].post(REJECT, {"version": version}) for n in range(20))
    )
    assert {answer.status for answer in answers} == {200}, answers[0].raw
    assert len({answer.body["access_token"] for answer in answers}) == 1
    assert answers[0].body["version"] > version
    assert answers[0].headers["Cache-Control"] == "no-store"
    assert works(shopify, SHOP, answers[0].body["access_token"])
    assert asked(shopify) == ["refresh"]


async def test_a_token_is_renewed_once_in_half_a_minute_for_a_caller_who_is_wrong(
    start: Any, shopify: MockShopify, clock: FakeClock
) -> None:
    service = await start(**settings(shopify), clock=clock)
    ends = {"expires": int(clock.now().timestamp() * 1000) + 3_600_000}
    version = await put(service, session(shopify, SHOP, **ends))
    for _ in range(5):
        answer = await service.post(REJECT, {"version": version})
        version = answer.body["version"]
    assert asked(shopify) == ["refresh"]
    clock.advance(31)
    answer = await service.post(REJECT, {"version": version})
    assert answer.body["version"] > version
    assert asked(shopify) == ["refresh", "refresh"]


async def test_another_version_than_the_stored_one_renews_nothing(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    document = session(shopify, SHOP)
    version = await put(service, document)
    answer = await service.post(REJECT, {"version": version - 1})
    assert (answer.status, answer.body["version"]) == (200, version)
    assert answer.body["access_token"] == document["accessToken"]
    assert asked(shopify) == []


async def test_a_refused_token_that_nothing_renews_needs_the_merchant(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    online = f"{SHOP}_7"
    await put(
        service,
        session(shopify, SHOP, id=online, isOnline=True, refreshToken=None)
        | {"onlineAccessInfo": {"associated_user": {"id": 7}}},
    )
    version = (await service.get(f"{TOKEN}?mode=online&user_id=7")).body["version"]
    assert (await service.post(REJECT, {"version": version, "mode": "online"})).status == 422
    body = {"version": version, "mode": "online", "user_id": 7}
    answer = await service.post(REJECT, body)
    assert (answer.status, answer.body["code"]) == (409, "reauth_required")
    answer = await service.get(f"{TOKEN}?mode=online&user_id=7")
    assert (answer.status, answer.body["code"]) == (409, "reauth_required")
    assert asked(shopify) == []


async def test_a_token_without_an_end_that_is_refused_becomes_a_pair(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    version = await put(
        service, {"id": ID, "shop": SHOP, "accessToken": shopify.lasting_token(SHOP)}
    )
    answer = await service.post(REJECT, {"version": version})
    assert works(shopify, SHOP, answer.body["access_token"])
    assert answer.body["expires"] is not None
    assert asked(shopify) == ["migrate"]


async def test_a_shop_migrates_once_also_when_the_answer_is_lost(
    start: Any, shopify: MockShopify
) -> None:
    replicas = [await start(**settings(shopify)), await start(**settings(shopify))]
    old = shopify.lasting_token(SHOP)
    await put(replicas[0], {"id": ID, "shop": SHOP, "accessToken": old, "state": "kept"})
    shopify.faults.add(Fault.lost())
    answers = await asyncio.gather(
        *(replica.post(f"/v1/shops/{SHOP}/migrate") for replica in replicas)
    )
    assert [answer.status for answer in answers] == [200, 200], answers[0].raw
    assert len({answer.body["access_token"] for answer in answers}) == 1
    assert answers[0].body["session_id"] == ID
    assert works(shopify, SHOP, answers[0].body["access_token"])
    assert not works(shopify, SHOP, old)
    assert asked(shopify) == ["migrate", "migrate"]
    # Who still has the old token and puts it back does no harm.
    await put(replicas[0], {"id": ID, "shop": SHOP, "accessToken": old, "state": "kept"})
    assert works(shopify, SHOP, (await replicas[1].get(TOKEN)).body["access_token"])


async def test_every_token_without_an_end_is_migrated_and_the_refused_are_counted(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    shops = [f"shop-{n}.myshopify.com" for n in range(5)]
    for shop in shops:
        token = shopify.lasting_token(shop) if shop != shops[0] else "shpat_of_nobody"
        await put(service, {"id": f"offline_{shop}", "shop": shop, "accessToken": token})
    await put(service, session(shopify, SHOP))
    answer = await service.post("/v1/maintenance/migrate", scopes=ADMIN)
    assert answer.body == {"migrated": 4, "failed": 1, "left": 0}
    for shop in shops[1:]:
        token = (await service.get(f"/v1/shops/{shop}/token")).body["access_token"]
        assert works(shopify, shop, token)
    answer = await service.get(f"/v1/shops/{shops[0]}/token")
    assert answer.body["access_token"] == "shpat_of_nobody"
    assert (await service.post("/v1/maintenance/migrate")).status == 403


async def test_client_credentials_are_renewed_by_asking_again(
    start: Any, shopify: MockShopify
) -> None:
    shopify.shop(SHOP).own_organisation = True
    service = await start(**settings(shopify))
    path = f"/v1/shops/{SHOP}/client-credentials"
    for _ in range(2):
        answer = await service.post(path)
        assert answer.status == 200, answer.raw
        assert (answer.body["session_id"], answer.body["user_id"]) == (ID, None)
        assert works(shopify, SHOP, answer.body["access_token"])
    await service.app[DATABASE].execute("update shopify_session set expires_ms = 1")
    other = await start(**settings(shopify))
    answer = await other.get(TOKEN)
    assert works(shopify, SHOP, answer.body["access_token"])
    assert asked(shopify) == ["client_credentials"] * 2
    shopify.shop("foreign.myshopify.com")
    answer = await service.post("/v1/shops/foreign.myshopify.com/client-credentials")
    assert (answer.status, answer.body["code"]) == (409, "reauth_required")
    answer = await service.post("/v1/shops/evil.example.com/client-credentials")
    assert (answer.status, answer.body["code"]) == (422, "invalid_shop")


async def test_without_an_app_at_shopify_grants_say_so(service: Any) -> None:
    await put(service, {"id": ID, "shop": SHOP, "accessToken": "shpat_old"})
    for path, body in (
        (REJECT, {"version": 1}),
        (f"/v1/shops/{SHOP}/client-credentials", None),
        (f"/v1/shops/{SHOP}/migrate", None),
        ("/v1/maintenance/migrate", None),
    ):
        answer = await service.post(path, body, scopes=ADMIN)
        assert (answer.status, answer.body["code"]) == (503, "shopify_not_configured"), path


async def test_grants_are_for_those_who_may_read_tokens_of_the_shop(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP))
    for path in (REJECT, f"/v1/shops/{SHOP}/client-credentials", f"/v1/shops/{SHOP}/migrate"):
        body = {"version": 1} if path == REJECT else None
        writer = frozenset({"sessions:read", "sessions:write"})
        assert (await service.post(path, body, scopes=writer)).body["code"] == "missing_scope"
        other = await service.post(path, body, shop="other.myshopify.com")
        assert (other.status, other.body["code"]) == (403, "other_shop")
    assert asked(shopify) == []


async def test_other_scopes_than_before_are_an_event(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    engine = service.app[GRANTS]
    for scopes in ("write_products", "write_products,read_orders"):
        shopify.shop(SHOP).scopes = scopes
        await engine.obtain(ID, SHOP, Code(code=shopify.code(SHOP)))
    rows = await service.app[DATABASE].fetch("select kind from token_event order by id")
    assert [row["kind"] for row in rows] == ["installed", "refreshed", "scopes_changed"]


async def test_what_happened_to_tokens_is_told_without_them(
    start: Any, shopify: MockShopify, database: str
) -> None:
    service = await start(**settings(shopify))
    engine = service.app[GRANTS]
    await engine.obtain(ID, SHOP, Code(code=shopify.code(SHOP)))
    first = await engine._find(ID)
    await engine.obtain(ID, SHOP, Refresh(over_gen=first.session.gen))
    shopify.uninstall(SHOP)
    await service.app[DATABASE].execute("update shopify_session set expires_ms = 1")
    assert (await (await start(**settings(shopify))).get(TOKEN)).status == 409
    connection = await asyncpg.connect(database, timeout=10)
    try:
        rows = await connection.fetch('select kind, "grant", reason from token_event order by id')
        told = await connection.fetch("select envelope::text from outbox")
    finally:
        await connection.close()
    assert [tuple(row) for row in rows] == [
        ("installed", "code", None),
        ("refreshed", "refresh", None),
        ("reauth_required", "refresh", "refresh_token_dead"),
    ]
    assert len(told) == 3
    assert not any("shpat_" in row[0] or "shprt_" in row[0] for row in told)


async def test_a_pair_is_tried_a_month_after_it_was_replaced_and_not_longer(
    start: Any, shopify: MockShopify, clock: FakeClock
) -> None:
    clock.advance(time.time() - clock.now().timestamp())
    service = await start(**settings(shopify), clock=clock)
    await put(service, session(shopify, SHOP, left_s=0))
    assert (await service.get(TOKEN)).status == 200
    clock.advance(timedelta(days=31).total_seconds())
    shopify.uninstall(SHOP)
    assert (await service.get(TOKEN)).body["code"] == "reauth_required"
    assert len(asked(shopify)) == 2
