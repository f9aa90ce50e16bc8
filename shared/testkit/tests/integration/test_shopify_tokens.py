"""The mock's token endpoint keeps Shopify's rules, in every position of its switches."""

import asyncio
import json
import sys
from typing import Any

import aiohttp
import pytest

from testkit.shopify import grants
from testkit.shopify.faults import Fault
from testkit.shopify.rules import DAY_S, HOUR_S, Dead, Era, Retry
from testkit.shopify.server import MockShopify
from testkit.shopify.world import Standing
from testkit.signals import eventually

SHOP = "one.myshopify.com"
Answered = tuple[int, Any]


async def ask(shopify: MockShopify, shop: str = SHOP, **fields: Any) -> Answered:
    client = {"client_id": shopify.api_key, "client_secret": shopify.api_secret}
    url = shopify.origin.replace("{shop}", shop) + "/admin/oauth/access_token"
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, json={k: v for k, v in (client | fields).items() if v is not None}) as got,
    ):
        said = await (got.json() if got.content_type == "application/json" else got.text())
        return got.status, said


async def refresh(shopify: MockShopify, token: str) -> Answered:
    return await ask(shopify, grant_type="refresh_token", refresh_token=token)


async def exchange(shopify: MockShopify, token: str, **fields: Any) -> Answered:
    asked = {
        "grant_type": grants.EXCHANGE,
        "subject_token": token,
        "subject_token_type": grants.ID_TOKEN,
        "requested_token_type": grants.OFFLINE,
        "expiring": "1",
    }
    return await ask(shopify, **(asked | fields))


async def migrate(shopify: MockShopify, token: str) -> Answered:
    return await exchange(shopify, token, subject_token_type=grants.OFFLINE)


def lives(shopify: MockShopify, token: str) -> bool:
    return shopify.shop(SHOP).wallet.find(token, shopify.clock.now()) is not None


async def test_a_code_brings_one_pair_once(shopify: MockShopify) -> None:
    code = shopify.code(SHOP)
    status, pair = await ask(shopify, code=code, expiring="1")
    assert status == 200
    assert pair["expires_in"] == 3600
    assert pair["refresh_token_expires_in"] == 90 * DAY_S
    assert lives(shopify, pair["access_token"])
    status, page = await ask(shopify, code=code, expiring="1")
    assert status == 400
    assert "Oauth error invalid_request" in page


async def test_a_code_of_another_shop_or_of_yesterday_brings_nothing(shopify: MockShopify) -> None:
    code = shopify.code(SHOP)
    assert (await ask(shopify, "two.myshopify.com", code=code))[0] == 400
    shopify.clock.advance(shopify.rules.code_ttl_s + 1)
    assert (await ask(shopify, code=code))[0] == 400


async def test_without_expiring_a_token_lasts_for_ever(shopify: MockShopify) -> None:
    _status, first = await ask(shopify, code=shopify.code(SHOP))
    assert first.keys() == {"access_token", "scope"}
    assert await ask(shopify, code=shopify.code(SHOP)) == (200, first)
    shopify.clock.advance(400 * DAY_S)
    assert lives(shopify, first["access_token"])


async def test_a_code_for_a_user_brings_an_online_token(shopify: MockShopify) -> None:
    _status, online = await ask(shopify, code=shopify.code(SHOP, user_id=7))
    assert online["associated_user"]["id"] == 7
    assert online["expires_in"] == DAY_S - 1
    assert "refresh_token" not in online


async def test_an_exchange_ends_the_pair_before(shopify: MockShopify) -> None:
    _status, first = await exchange(shopify, shopify.session_token(SHOP))
    _status, second = await exchange(shopify, shopify.session_token(SHOP))
    assert not lives(shopify, first["access_token"])
    assert lives(shopify, second["access_token"])
    assert (await refresh(shopify, first["refresh_token"]))[0] == 401
    assert (await refresh(shopify, second["refresh_token"]))[0] == 200


async def test_an_online_exchange_leaves_the_pair_alone(shopify: MockShopify) -> None:
    pair = shopify.pair(SHOP)
    token = shopify.session_token(SHOP, user_id=9)
    status, online = await exchange(shopify, token, requested_token_type=grants.ONLINE)
    assert (status, online["associated_user"]["id"]) == (200, 9)
    assert lives(shopify, pair.access.token)


@pytest.mark.parametrize(
    "claims",
    [
        {"secret": "another secret of thirty-two letters"},
        {"aud": "another app"},
        {"dest": "https://two.myshopify.com"},
        {"iss": "https://two.myshopify.com/admin"},
        {"exp": 1},
        {"nbf": 9_999_999_999},
    ],
)
async def test_a_session_token_that_is_not_right_brings_nothing(
    shopify: MockShopify, claims: dict[str, Any]
) -> None:
    token = shopify.session_token(SHOP, **claims)
    status, said = await exchange(shopify, token)
    assert (status, said["error"]) == (400, "invalid_subject_token")


async def test_a_session_token_may_be_ten_seconds_late(shopify: MockShopify) -> None:
    token = shopify.session_token(SHOP)
    shopify.clock.advance(68)
    assert (await exchange(shopify, token))[0] == 200
    shopify.clock.advance(3)
    assert (await exchange(shopify, token))[0] == 400


async def test_a_lasting_token_migrates_once_and_again_for_a_week(shopify: MockShopify) -> None:
    old = shopify.lasting_token(SHOP)
    _status, pair = await migrate(shopify, old)
    assert not lives(shopify, old)
    shopify.clock.advance(6 * DAY_S)
    status, again = await migrate(shopify, old)
    assert (status, again["refresh_token"]) == (200, pair["refresh_token"])
    shopify.clock.advance(2 * DAY_S)
    assert (await migrate(shopify, old))[0] == 400


async def test_a_migration_is_over_when_its_pair_was_refreshed(shopify: MockShopify) -> None:
    old = shopify.lasting_token(SHOP)
    _status, pair = await migrate(shopify, old)
    await refresh(shopify, pair["refresh_token"])
    assert (await migrate(shopify, old))[0] == 400


async def test_client_credentials_are_for_shops_of_the_own_organisation(
    shopify: MockShopify,
) -> None:
    status, said = await ask(shopify, grant_type="client_credentials")
    assert (status, said) == (400, {"error": "shop_not_permitted"})
    shopify.shop(SHOP).own_organisation = True
    status, said = await ask(shopify, grant_type="client_credentials")
    assert (status, said["expires_in"]) == (200, DAY_S - 1)
    assert "refresh_token" not in said
    shopify.uninstall(SHOP)
    status, said = await ask(shopify, grant_type="client_credentials")
    assert (status, said) == (400, {"error": "app_not_installed"})


async def test_a_refresh_brings_a_new_pair_and_ninety_new_days(shopify: MockShopify) -> None:
    pair = shopify.pair(SHOP)
    shopify.clock.advance(80 * DAY_S)
    status, second = await refresh(shopify, pair.refresh)
    assert status == 200
    assert second["refresh_token"] != pair.refresh
    shopify.clock.advance(80 * DAY_S)
    assert (await refresh(shopify, second["refresh_token"]))[0] == 200


async def test_a_refresh_token_of_ninety_one_days_is_dead(shopify: MockShopify) -> None:
    pair = shopify.pair(SHOP)
    shopify.clock.advance(91 * DAY_S)
    status, said = await refresh(shopify, pair.refresh)
    assert (status, said["error"]) == (401, "invalid_request")
    shopify.rules.dead_refresh, shopify.rules.dead_refresh_status = Dead.INVALID_GRANT, 400
    assert await refresh(shopify, pair.refresh) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize("retry", list(Retry))
@pytest.mark.parametrize("era", list(Era))
async def test_a_lost_answer_can_be_asked_for_again(
    shopify: MockShopify, era: Era, retry: Retry
) -> None:
    shopify.rules.era, shopify.rules.retry = era, retry
    pair = shopify.pair(SHOP)
    shopify.faults.add(Fault.lost())
    with pytest.raises(aiohttp.ClientError):
        await refresh(shopify, pair.refresh)
    lost = shopify.shop(SHOP).wallet.newest
    assert lost is not None
    assert lost is not pair
    status, again = await refresh(shopify, pair.refresh)
    assert status == 200
    assert (again["refresh_token"] == lost.refresh) is (retry is Retry.SAME_PAIR)
    assert lives(shopify, again["access_token"])
    assert lives(shopify, lost.access.token) is (retry is Retry.SAME_PAIR)


async def test_an_old_refresh_token_is_good_until_its_replacement_is_used(
    shopify: MockShopify,
) -> None:
    pair = shopify.pair(SHOP)
    await refresh(shopify, pair.refresh)
    shopify.clock.advance(29 * DAY_S)
    assert (await refresh(shopify, pair.refresh))[0] == 200
    newest = shopify.shop(SHOP).wallet.newest
    assert newest is not None
    newest.access.used = True
    assert (await refresh(shopify, pair.refresh))[0] == 401


async def test_an_old_refresh_token_is_good_for_thirty_days_at_most(shopify: MockShopify) -> None:
    pair = shopify.pair(SHOP)
    await refresh(shopify, pair.refresh)
    shopify.clock.advance(31 * DAY_S)
    assert (await refresh(shopify, pair.refresh))[0] == 401


async def test_an_old_refresh_token_was_good_for_an_hour(shopify: MockShopify) -> None:
    shopify.rules.era = Era.SIXTY_MINUTES
    pair = shopify.pair(SHOP)
    _status, second = await refresh(shopify, pair.refresh)
    await refresh(shopify, second["refresh_token"])
    shopify.clock.advance(HOUR_S - 1)
    assert (await refresh(shopify, pair.refresh))[0] == 200
    shopify.clock.advance(2)
    assert (await refresh(shopify, pair.refresh))[0] == 401


@pytest.mark.parametrize("ends", [True, False])
async def test_a_refresh_ends_the_access_token_or_not(shopify: MockShopify, ends: bool) -> None:
    shopify.rules.refresh_ends_access = ends
    pair = shopify.pair(SHOP)
    await refresh(shopify, pair.refresh)
    assert lives(shopify, pair.access.token) is not ends


async def test_an_uninstalled_app_has_no_tokens(shopify: MockShopify) -> None:
    pair = shopify.pair(SHOP)
    shopify.uninstall(SHOP)
    assert not lives(shopify, pair.access.token)
    assert (await refresh(shopify, pair.refresh))[1]["error"] == "invalid_request"
    shopify.rules.uninstalled_is_invalid_client = True
    assert (await refresh(shopify, pair.refresh))[1]["error"] == "invalid_client"


async def test_the_old_secret_is_taken_until_it_is_dropped(shopify: MockShopify) -> None:
    old = shopify.api_secret
    shopify.rotate_secret()
    code = shopify.code(SHOP)
    assert (await ask(shopify, code=code, client_secret=old))[0] == 200
    shopify.drop_old_secrets()
    for status in (400, 401):
        shopify.rules.invalid_client_status = status
        got, said = await ask(shopify, code=code, client_secret=old)
        assert (got, said["error"]) == (status, "invalid_client")


async def test_faults_come_in_their_order_and_to_whom_they_are_meant(shopify: MockShopify) -> None:
    pair = shopify.pair(SHOP)
    shopify.faults.add(
        Fault.answers(520, times=2),
        Fault.answers(429, headers={"Retry-After": "2.0"}),
        Fault.lacks("expires_in", "refresh_token"),
        Fault.answers(503, shop="two.myshopify.com"),
    )
    assert [(await refresh(shopify, pair.refresh))[0] for _ in range(3)] == [520, 520, 429]
    _status, said = await refresh(shopify, pair.refresh)
    assert said.keys() == {"access_token", "scope", "refresh_token_expires_in"}
    assert (await refresh(shopify, pair.refresh))[0] == 200
    assert shopify.faults.left == 1
    assert [call.status for call in shopify.called("token", SHOP, "refresh")] == [
        520, 520, 429, 200, 200,
    ]  # fmt: skip


async def test_a_connection_may_be_cut_before_anything_is_done(shopify: MockShopify) -> None:
    pair = shopify.pair(SHOP)
    shopify.faults.add(Fault.reset())
    with pytest.raises(aiohttp.ClientError):
        await refresh(shopify, pair.refresh)
    assert pair.refreshed_at is None


async def test_an_answer_can_be_held_until_the_test_lets_go(shopify: MockShopify) -> None:
    pair, hold = shopify.pair(SHOP), asyncio.Event()
    shopify.faults.add(Fault(hold=hold, after=True))
    asked = asyncio.create_task(refresh(shopify, pair.refresh))
    await eventually(lambda: pair.refreshed_at is not None)
    assert not asked.done()
    hold.set()
    assert (await asked)[0] == 200


@pytest.mark.parametrize("standing", [each for each in Standing if each is not Standing.OPEN])
async def test_a_shop_that_is_not_open_says_so(shopify: MockShopify, standing: Standing) -> None:
    pair = shopify.pair(SHOP)
    shopify.shop(SHOP).standing = standing
    assert (await refresh(shopify, pair.refresh))[0] == standing
    assert pair.refreshed_at is None


async def test_the_date_is_of_the_clock_that_tests_move(shopify: MockShopify) -> None:
    shopify.clock.advance(-3 * DAY_S)
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{shopify.url}/{SHOP}/admin/oauth/access_token") as got,
    ):
        assert got.headers.getall("Date") == [shopify.clock.http_date()]


async def test_another_process_has_the_same_switches(shopify: MockShopify) -> None:
    async with aiohttp.ClientSession(shopify.url) as http:

        async def tell(path: str, **given: Any) -> Any:
            async with http.post(f"/_ctl/{path}", json=given) as got:
                assert got.status == 200, await got.text()
                return await got.json()

        await tell("rules", retry="new_pair", access_ttl_s=60)
        assert shopify.rules.retry is Retry.NEW_PAIR
        await tell("faults", script=[{"status": 503, "times": 2}, {"drop": ["expires_in"]}])
        pair = await tell(f"shops/{SHOP}/pair")
        statuses = [(await refresh(shopify, pair["refresh_token"]))[0] for _ in range(2)]
        assert statuses == [503, 503]
        assert "expires_in" not in (await refresh(shopify, pair["refresh_token"]))[1]
        await tell("clock", advance=61)
        assert not lives(shopify, pair["access_token"])
        assert (await tell("calls", where="token", shop=SHOP))["count"] == 3
        token = (await tell(f"shops/{SHOP}/session-token", user_id=4))["session_token"]
        assert (await exchange(shopify, token))[0] == 200
        code = (await tell(f"shops/{SHOP}/code"))["code"]
        assert (await ask(shopify, code=code))[0] == 200
        assert (await tell(f"shops/{SHOP}", installed=False))["installed"] is False
        assert (await exchange(shopify, token))[0] == 400


async def test_it_runs_as_a_process(shopify: MockShopify) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "testkit.shopify", "--api-secret", shopify.api_secret,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    said = json.loads(await asyncio.wait_for(process.stdout.readline(), 20))
    assert said["origin"] == said["url"] + "/{shop}"
    assert said["api_secret"] == shopify.api_secret
    async with (
        aiohttp.ClientSession(said["url"]) as http,
        http.post("/_ctl/calls", json={}) as got,
    ):
        assert await got.json() == {"count": 0, "calls": []}
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 10) == 0
