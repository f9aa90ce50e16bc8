"""Authorizations by redirects: begun here, agreed to at a Shopify of our own, ended here."""

import asyncio
import hashlib
import re
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import asyncpg
import pytest
import pytest_asyncio
from yarl import URL

from chassis import crypto, postgres
from session_service.store.oauth_states import PostgresStates
from testkit.service import running
from testkit.shopify import signing
from testkit.shopify.authorize import callback_query
from testkit.shopify.faults import Fault
from testkit.shopify.server import MockShopify
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
OTHER = "other.myshopify.com"
APP = "https://app.example"
WRITER = frozenset({"sessions:write"})


@dataclass
class Browser:
    """Begins with `service` and comes back to it, unless it is told another."""

    service: Any
    shopify: MockShopify
    authorize_url: str = ""
    cookie: str = ""

    async def begin(self, shop: str = SHOP, **more: Any) -> Any:
        said = {"shop": shop, **more}
        answer = await self.service.post("/v1/oauth/begin", said, scopes=WRITER)
        if answer.status == 200:
            self.authorize_url = answer.body["authorize_url"]
            self.cookie = answer.body["cookie"].partition(";")[0]
        return answer

    async def agree(self) -> str:
        """The query that Shopify sends it back with."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(URL(self.authorize_url, encoded=True), allow_redirects=False) as answer,
        ):
            assert answer.status == 302
            address = urlsplit(answer.headers["Location"])
        assert f"{address.scheme}://{address.netloc}{address.path}" == f"{APP}/auth/callback"
        return address.query

    async def come_back(self, query: str, *, cookie: str | None = None, to: Any = None) -> Any:
        said = {"query": query, "cookie": self.cookie if cookie is None else cookie}
        return await (to or self.service).post("/v1/oauth/complete", said, scopes=WRITER)

    @property
    def state(self) -> str:
        return parse_qs(urlsplit(self.authorize_url).query)["state"][0]

    def signed(self, **other: str) -> str:
        """A query as Shopify signs it, but for what is said to be otherwise."""
        said = dict(callback_query(self.shopify, SHOP, state=self.state)) | other
        del said["hmac"]
        return urlencode(signing.signed(list(said.items()), self.shopify.api_secret))


@pytest_asyncio.fixture
async def browser(start: Any, shopify: MockShopify) -> Browser:
    return Browser(await start(**at(shopify)), shopify)


def at(shopify: MockShopify) -> dict[str, Any]:
    return {
        "shopify_api_key": shopify.api_key,
        "shopify_api_secret": shopify.api_secret,
        "shopify_scopes": "read_orders,write_products",
        "shopify_shop_origin": shopify.origin,
        "shopify_app_url": APP,
    }


async def states(database: str) -> list[Any]:
    connection = await asyncpg.connect(database)
    try:
        return list(await connection.fetch("select * from oauth_state"))
    finally:
        await connection.close()


async def run(database: str, statement: str, *values: Any) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


def codes_used(shopify: MockShopify) -> int:
    return len(shopify.called("token", SHOP, "code"))


async def test_a_shop_that_agrees_has_a_session_with_a_pair(
    browser: Browser, database: str
) -> None:
    begun = await browser.begin("Greek-Olives.myshopify.com")
    assert begun.headers["Cache-Control"] == "no-store"
    asked = parse_qs(urlsplit(browser.authorize_url).query)
    assert asked == {
        "client_id": [browser.shopify.api_key],
        "scope": ["read_orders,write_products"],
        "redirect_uri": [f"{APP}/auth/callback"],
        "state": [browser.state],
    }
    done = await browser.come_back(await browser.agree())
    assert done.status == 200, done.raw
    key = browser.shopify.api_key
    assert done.body | {"version": 0, "clear_cookie": ""} == {
        "session_id": f"offline_{SHOP}", "shop": SHOP, "user_id": None, "version": 0,
        "scope": "read_orders,write_products", "clear_cookie": "",
        "redirect_to": f"https://admin.shopify.com/store/greek-olives/apps/{key}",
    }  # fmt: skip
    session = (await browser.service.get(f"/v1/sessions/offline_{SHOP}")).body
    assert session["accessToken"].startswith("shpat_")
    assert session["refreshToken"].startswith("shprt_")
    assert (session["state"], session["isOnline"]) == (browser.state, False)
    assert await states(database) == []


async def test_a_cookie_is_for_the_callback_alone_and_ended_there(browser: Browser) -> None:
    cookie = (await browser.begin()).body["cookie"]
    name = f"mainstay_oauth_{browser.state}"
    attributes = "; Max-Age=600; Path=/auth/callback; HttpOnly; SameSite=Lax; Secure"
    assert re.fullmatch(f"{name}=[A-Za-z0-9_-]{{43}}{attributes}", cookie)
    done = await browser.come_back(await browser.agree())
    assert done.body["clear_cookie"] == f"{name}={attributes.replace('600', '0')}"


async def test_a_member_of_staff_has_a_session_of_their_own(browser: Browser) -> None:
    await browser.begin(mode="online")
    done = await browser.come_back(await browser.agree())
    assert (done.body["session_id"], done.body["user_id"]) == (f"{SHOP}_1", 1)
    session = (await browser.service.get(f"/v1/sessions/{SHOP}_1")).body
    assert session["isOnline"] is True
    assert session["onlineAccessInfo"]["associated_user"]["id"] == 1
    assert (await browser.service.get(f"/v1/sessions/offline_{SHOP}")).status == 404


async def test_a_callback_counts_once(browser: Browser) -> None:
    await browser.begin()
    query = await browser.agree()
    assert (await browser.come_back(query)).status == 200
    again = await browser.come_back(query)
    assert (again.status, again.body["code"]) == (403, "state_mismatch")
    assert codes_used(browser.shopify) == 1


async def test_it_counts_for_its_own_browser_and_shop_alone(browser: Browser) -> None:
    await browser.begin()
    query, own = await browser.agree(), browser.cookie
    stranger = Browser(browser.service, browser.shopify)
    await stranger.begin()
    name = own.partition("=")[0]
    for cookie in ("", stranger.cookie, f"{name}=", f"{name}={stranger.cookie.partition('=')[2]}"):
        refused = await browser.come_back(query, cookie=cookie)
        assert (refused.status, refused.body["code"]) == (403, "state_mismatch"), cookie
    elsewhere = urlencode(callback_query(browser.shopify, OTHER, state=browser.state))
    assert (await browser.come_back(elsewhere)).body["code"] == "state_mismatch"
    for state in ("", "a" * 64, browser.state.upper(), browser.state + "\n"):
        refused = await browser.come_back(browser.signed(state=state))
        assert refused.status in (403, 422), state
    assert browser.shopify.called("token") == []
    # And nobody has spoilt it for who began it.
    assert (await browser.come_back(query, cookie=f"a=b; {own};c")).status == 200


async def test_two_tabs_do_not_disturb_each_other(browser: Browser) -> None:
    other = Browser(browser.service, browser.shopify)
    await browser.begin(return_to="/one")
    await other.begin(return_to="/two")
    jar = f"{browser.cookie}; {other.cookie}"
    second = await other.come_back(await other.agree(), cookie=jar)
    first = await browser.come_back(await browser.agree(), cookie=jar)
    assert [each.body["redirect_to"] for each in (first, second)] == [f"{APP}/one", f"{APP}/two"]


async def test_what_was_begun_ten_minutes_ago_is_over_and_cleaned_up(
    browser: Browser, database: str
) -> None:
    await browser.begin()
    (row,) = await states(database)
    kept_s = (row["expires_at"] - row["expires_at"].now(row["expires_at"].tzinfo)).total_seconds()
    assert 590 < kept_s <= 600
    await run(database, "update oauth_state set expires_at = now() - interval '1 s'")
    refused = await browser.come_back(await browser.agree())
    assert (refused.status, refused.body["code"]) == (403, "state_mismatch")
    await Browser(browser.service, browser.shopify).begin()
    await browser.service.post("/v1/maintenance/cleanup", scopes=frozenset({"admin"}))
    (left,) = await states(database)
    assert left["state_hash"] != row["state_hash"]


async def test_nothing_in_the_database_opens_an_authorization(
    browser: Browser, database: str
) -> None:
    await browser.begin(return_to="/a")
    kept = str([list(row.values()) for row in await states(database)])
    browsers = browser.cookie.partition("=")[2]
    for secret in (browser.state, browsers):
        assert secret not in kept
        assert repr(hashlib.sha256(secret.encode()).digest()) in kept


async def test_forged_and_hostile_callbacks_store_nothing(browser: Browser) -> None:
    await browser.begin()
    good = browser.signed()
    browser.shopify.clock.advance(-100)
    yesterday = browser.signed()
    browser.shopify.clock.advance(100)
    forged = urlencode(
        callback_query(browser.shopify, SHOP, state=browser.state, secret="shpss_" + "0" * 32)
    )
    for query, status, code in (
        (forged, 401, "invalid_hmac"),
        (good.replace(SHOP, OTHER), 401, "invalid_hmac"),
        (good + "&more=1", 401, "invalid_hmac"),
        (yesterday, 401, "invalid_hmac"),
        ("", 401, "invalid_hmac"),
        (f"{good}&state={browser.state}", 422, "invalid"),
        (f"{good}&hmac=", 422, "invalid"),
        (browser.signed(shop="evil.example"), 422, "invalid_shop"),
        (browser.signed(shop=f"{SHOP}.evil.example"), 422, "invalid_shop"),
        (browser.signed(code=""), 422, "invalid"),
        ("code=%ff", 400, "malformed"),
        ("&".join(["a=1"] * 60), 400, "malformed"),
        ("a" * 9000, 422, "invalid"),
    ):
        refused = await browser.come_back(query)
        assert (refused.status, refused.body["code"]) == (status, code), query[:80]
        assert browser.state not in str(refused.body)
    assert browser.shopify.called("token") == []
    assert (await browser.service.get(f"/v1/sessions/offline_{SHOP}")).status == 404
    assert (await browser.come_back(good)).status == 200


async def test_either_form_of_signature_and_either_secret_count(
    browser: Browser, start: Any
) -> None:
    old = browser.shopify.api_secret
    new = browser.shopify.rotate_secret()
    settings = at(browser.shopify) | {"shopify_api_secret": new, "shopify_api_secret_old": old}
    browser.service = await start(**settings)
    for secret in (new, old):
        await browser.begin()
        said = dict(callback_query(browser.shopify, SHOP, state=browser.state)) | {"a": "b~ c"}
        del said["hmac"]
        legacy = signing.legacy_query_hmac(list(said.items()), secret)
        done = await browser.come_back(urlencode(said | {"hmac": legacy}))
        assert done.status == 200, done.raw


async def test_the_browser_ends_in_the_admin_that_shopify_named(browser: Browser) -> None:
    apps = f"apps/{browser.shopify.api_key}"
    for host, address in (
        (None, f"https://admin.shopify.com/store/greek-olives/{apps}"),
        ("padded", f"https://admin.shopify.com/store/greek-olives/{apps}"),
        ("ZXZpbC5leGFtcGxlL2FkbWlu", f"https://{SHOP}/admin/{apps}"),
        ("", f"https://{SHOP}/admin/{apps}"),
    ):
        await browser.begin()
        browser.shopify.rules.pads_host = host == "padded"
        query = browser.signed() if host in (None, "padded") else browser.signed(host=host)
        assert (await browser.come_back(query)).body["redirect_to"] == address


async def test_nobody_is_sent_elsewhere(browser: Browser, database: str) -> None:
    for said, pointer in (
        ({"return_to": "//evil.example"}, "/return_to"),
        ({"return_to": "https://evil.example"}, "/return_to"),
        ({"return_to": "/\\evil.example"}, "/return_to"),
        ({"return_to": "@evil.example"}, "/return_to"),
        ({"return_to": ".evil.example"}, "/return_to"),
        ({"return_to": "/a\r\nSet-Cookie: a=b"}, "/return_to"),
        ({"return_to": ""}, "/return_to"),
        ({"host": "ZXZpbC5leGFtcGxlL2FkbWlu"}, "/host"),
        ({"host": "?"}, "/host"),
        ({"shop": "evil.example"}, "/shop"),
        ({"shop": f"{SHOP}@evil.example"}, "/shop"),
        ({"shop": f"{SHOP}\n"}, "/shop"),
        ({"shop": "a" * 64 + ".myshopify.com"}, "/shop"),
    ):
        refused = await browser.begin(**said)
        assert (refused.status, refused.pointers) == (422, [pointer]), said
    assert await states(database) == []


async def test_shopify_away_costs_a_reload_and_no_more(browser: Browser) -> None:
    await browser.begin()
    query = await browser.agree()
    browser.shopify.faults.add(Fault(status=503, times=3))
    refused = await browser.come_back(query)
    assert (refused.status, refused.body["retryable"]) == (503, True)
    assert (await browser.come_back(query)).status == 200


async def test_two_reloads_at_once_use_the_code_once(browser: Browser) -> None:
    await browser.begin()
    query, hold = await browser.agree(), asyncio.Event()
    browser.shopify.faults.add(Fault(hold=hold))
    first = asyncio.create_task(browser.come_back(query))
    await eventually(lambda: codes_used(browser.shopify) == 1)
    second = await browser.come_back(query)
    assert (second.status, second.body["code"]) == (503, "refresh_in_progress")
    hold.set()
    assert (await first).status == 200
    assert codes_used(browser.shopify) == 1


async def test_what_one_replica_began_another_ends_also_after_one_that_died(
    browser: Browser, start: Any, database: str
) -> None:
    await browser.begin()
    query = await browser.agree()
    pool = await postgres.open_database(database, size=2, application="dead")
    digests = [
        hashlib.sha256(text.encode()).digest()
        for text in (browser.state, browser.cookie.partition("=")[2])
    ]
    claimed = await PostgresStates(pool).claim(
        digests[0], digests[1], shop=SHOP, owner=uuid.uuid4(), hold_s=0.3
    )
    assert claimed is not None
    await pool.close()
    other = await start(**at(browser.shopify))

    async def is_done() -> bool:
        done = await browser.come_back(query, to=other)
        assert done.status == 200 or done.body["code"] == "refresh_in_progress"
        return bool(done.status == 200)

    assert not await is_done()
    await eventually(is_done)


async def test_a_broken_store_is_no_refusal(browser: Browser, start: Any) -> None:
    await browser.begin()
    query = await browser.agree()
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    broken = await start(**at(browser.shopify), database_url=nowhere)
    for answer in (
        await browser.come_back(query, to=broken),
        await Browser(broken, browser.shopify).begin(),
    ):
        assert (answer.status, answer.body["code"]) == (503, "database_unavailable")
    assert browser.shopify.called("token") == []
    assert (await browser.come_back(query)).status == 200


async def test_a_kill_in_the_middle_costs_a_reload(
    browser: Browser,
    start: Any,
    database: str,
    process_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    said = at(browser.shopify) | {
        "database_url": database,
        "session_keys": f"k1:{crypto.new_key()}",
    }
    environment = process_environment | {name.upper(): value for name, value in said.items()}
    await browser.begin()
    query, survivor, hold = await browser.agree(), browser.service, asyncio.Event()
    browser.shopify.faults.add(Fault(hold=hold))
    victim = replace(survivor, url=f"http://127.0.0.1:{environment['PORT']}")
    async with running("session_service", "api", environment, tmp_path / "log") as process:
        await eventually(lambda: _answers(victim), within_s=20)
        lost = asyncio.create_task(browser.come_back(query, to=victim))
        await eventually(lambda: codes_used(browser.shopify) == 1)
        process.kill()
        await process.wait()
    with pytest.raises(aiohttp.ClientError):
        await lost
    browser.shopify.faults.clear()
    assert (await browser.come_back(query)).body["code"] == "refresh_in_progress"
    # What it held runs out: seconds that nobody here waits for.
    await run(database, "update oauth_state set claimed_until = now()")
    await run(database, "update grant_lease set until = now()")
    assert (await browser.come_back(query)).status == 200
    hold.set()


async def _answers(service: Any) -> bool:
    try:
        return bool((await service.get("/readyz")).status == 200)
    except aiohttp.ClientConnectorError:
        return False


async def test_a_code_whose_answer_was_lost_begins_anew(browser: Browser, database: str) -> None:
    await browser.begin(mode="online", return_to="/a?b=c")
    query = await browser.agree()
    browser.shopify.faults.add(Fault.lost(detail="code"))
    lost = await browser.come_back(query)
    assert (lost.status, lost.body["code"]) == (409, "reauth_required")
    address = urlsplit(lost.body["authorize_url"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{APP}/auth"
    assert parse_qs(address.query) == {
        "shop": [SHOP], "mode": ["online"], "return_to": ["/a?b=c"],
    }  # fmt: skip
    assert await states(database) == []


async def test_who_may_begin_and_end(browser: Browser) -> None:
    for path in ("/v1/oauth/begin", "/v1/oauth/complete"):
        said = {"shop": SHOP} if path.endswith("begin") else {"query": "a=b"}
        denied = await browser.service.post(path, said, scopes=frozenset({"tokens:read"}))
        assert (denied.status, denied.body["code"]) == (403, "missing_scope")
    denied = await browser.service.post(
        "/v1/oauth/begin", {"shop": SHOP}, scopes=WRITER, shop=OTHER
    )
    assert (denied.status, denied.body["code"]) == (403, "other_shop")
    await browser.begin()
    said = {"query": await browser.agree(), "cookie": browser.cookie}
    denied = await browser.service.post("/v1/oauth/complete", said, scopes=WRITER, shop=OTHER)
    assert (denied.status, denied.body["code"]) == (403, "other_shop")


async def test_without_an_app_nothing_is_begun(start: Any, shopify: MockShopify) -> None:
    for missing in ("shopify_api_key", "shopify_api_secret", "shopify_app_url"):
        service = await start(**{k: v for k, v in at(shopify).items() if k != missing})
        for path, said in (
            ("/v1/oauth/begin", {"shop": SHOP}),
            ("/v1/oauth/complete", {"query": "a=b"}),
        ):
            answer = await service.post(path, said, scopes=WRITER)
            assert (answer.status, answer.body["code"]) == (503, "shopify_not_configured")
