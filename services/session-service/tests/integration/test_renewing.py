"""Tokens that renew themselves, before a Shopify that loses answers and means what it says."""

import asyncio
import time
from typing import Any

import pytest

from session_service.app import DATABASE
from testkit.shopify.apps import session, settings, works
from testkit.shopify.faults import Fault
from testkit.shopify.rules import Dead, Era, Retry
from testkit.shopify.server import MockShopify
from testkit.shopify.world import Standing
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
TOKEN = f"/v1/shops/{SHOP}/token"
PATH = f"/v1/sessions/offline_{SHOP}"
DAY_MS = 86_400_000


def now_ms() -> int:
    return int(time.time() * 1000)


async def put(service: Any, document: Any) -> int:
    answer = await service.call("PUT", f"/v1/sessions/{document['id']}", document)
    assert answer.status == 200, answer.raw
    return int(answer.body["version"])


def refreshes(shopify: MockShopify, shop: str = SHOP) -> int:
    return len(shopify.called("token", shop, "refresh"))


async def forget_back_off(service: Any) -> None:
    """As if the time had passed."""
    await service.app[DATABASE].execute("update shopify_session set next_attempt_at = null")


@pytest.fixture(params=Retry)
def retry(request: pytest.FixtureRequest, shopify: MockShopify) -> Retry:
    shopify.rules.retry = request.param
    return shopify.rules.retry


async def test_a_token_that_has_ended_is_renewed(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    version = await put(service, session(shopify, SHOP, left_s=0))
    answer = await service.get(TOKEN)
    assert answer.status == 200, answer.raw
    assert works(shopify, SHOP, answer.body["access_token"])
    assert answer.body["version"] > version
    assert answer.headers["Cache-Control"] == "no-store"
    assert 3_500_000 < answer.body["expires"] - now_ms() <= 3_600_000
    stored = await service.get(PATH)
    newest = shopify.shop(SHOP).wallet.newest
    assert newest is not None
    assert stored.body["refreshToken"] == newest.refresh
    assert stored.body["accessToken"] == newest.access.token


@pytest.mark.usefixtures("retry")
async def test_200_callers_on_two_replicas_are_one_refresh(
    start: Any, shopify: MockShopify
) -> None:
    replicas = [await start(**settings(shopify)), await start(**settings(shopify))]
    await put(replicas[0], session(shopify, SHOP, left_s=0))
    shopify.faults.add(Fault(delay_s=0.3))
    answers = await asyncio.gather(*(replicas[n % 2].get(TOKEN) for n in range(200)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body["access_token"] for answer in answers}) == 1
    assert works(shopify, SHOP, answers[0].body["access_token"])
    assert refreshes(shopify) == 1


@pytest.mark.usefixtures("retry")
@pytest.mark.parametrize("era", Era)
async def test_an_answer_that_is_lost_is_asked_for_again(
    start: Any, shopify: MockShopify, era: Era
) -> None:
    shopify.rules.era = era
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    shopify.faults.add(Fault.lost(times=2))
    answer = await service.get(TOKEN)
    assert answer.status == 200, answer.raw
    assert works(shopify, SHOP, answer.body["access_token"])
    assert refreshes(shopify) == 3


@pytest.mark.usefixtures("retry")
async def test_what_was_lost_for_good_comes_back_with_the_same_refresh_token(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    shopify.faults.add(Fault.lost(times=3))
    answer = await service.get(TOKEN)
    assert (answer.status, answer.body["code"]) == (503, "upstream_unavailable")
    await forget_back_off(service)
    answer = await service.get(TOKEN)
    assert answer.status == 200, answer.raw
    assert works(shopify, SHOP, answer.body["access_token"])


@pytest.mark.usefixtures("retry")
@pytest.mark.parametrize("fields", [("refresh_token",), ("expires_in",), ("scope",)])
async def test_an_answer_that_lacks_what_was_there_is_asked_for_again(
    start: Any, shopify: MockShopify, fields: tuple[str, ...]
) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    shopify.faults.add(Fault.lacks(*fields))
    answer = await service.get(TOKEN)
    assert refreshes(shopify) == 2
    assert works(shopify, SHOP, answer.body["access_token"])
    newest = shopify.shop(SHOP).wallet.newest
    assert newest is not None
    assert (await service.get(PATH)).body["refreshToken"] == newest.refresh


@pytest.mark.usefixtures("retry")
async def test_what_answers_lack_is_never_erased(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    document = session(shopify, SHOP, left_s=0)
    await put(service, document)
    shopify.faults.add(
        Fault.lacks("refresh_token", "refresh_token_expires_in", "expires_in", "scope", times=2)
    )
    answer = await service.get(TOKEN)
    assert works(shopify, SHOP, answer.body["access_token"])
    assert 3_500_000 < answer.body["expires"] - now_ms() <= 3_600_000
    stored = (await service.get(PATH)).body
    for kept in ("refreshToken", "refreshTokenExpires", "scope"):
        assert stored[kept] == document[kept], kept


@pytest.mark.parametrize("dead", Dead)
@pytest.mark.parametrize("status", [400, 401])
async def test_a_dead_refresh_token_means_that_the_shop_must_come_again(
    start: Any, shopify: MockShopify, dead: Dead, status: int
) -> None:
    shopify.rules.dead_refresh, shopify.rules.dead_refresh_status = dead, status
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    shopify.uninstall(SHOP)
    for _ in range(2):
        answer = await service.get(TOKEN)
        assert (answer.status, answer.body["code"]) == (409, "reauth_required")
        assert answer.body["authorize_url"] == f"https://app.example.com/auth?shop={SHOP}"
        assert answer.body["reason"] in ("refresh_token_dead", "reauth_required")
    assert refreshes(shopify) == 1
    assert (await service.get(PATH)).status == 200
    shopify.install(SHOP)
    await put(service, session(shopify, SHOP, left_s=3600))
    assert (await service.get(TOKEN)).status == 200


async def test_the_refresh_token_before_the_current_one_is_tried_too(
    start: Any, shopify: MockShopify
) -> None:
    """A pair that was lost between Shopify and us, whoever asked for it."""
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    assert (await service.get(TOKEN)).status == 200
    stored = (await service.get(PATH)).body
    lost = shopify.shop(SHOP).wallet.refresh(stored["refreshToken"], "x", shopify.clock.now())
    await put(service, stored | {"refreshToken": "shprt_of_nobody", "expires": now_ms()})
    answer = await service.get(TOKEN)
    assert answer.status == 200, answer.raw
    assert works(shopify, SHOP, answer.body["access_token"])
    assert lost.refresh


@pytest.mark.parametrize("standing", [Standing.FROZEN, Standing.LOCKED])
async def test_a_frozen_shop_is_left_alone_and_keeps_its_session(
    start: Any, shopify: MockShopify, standing: Standing
) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    shopify.shop(SHOP).standing = standing
    for _ in range(2):
        answer = await service.get(TOKEN)
        assert (answer.status, answer.body["code"]) == (409, "shop_unavailable")
    assert refreshes(shopify) == 1
    shopify.shop(SHOP).standing = Standing.OPEN
    await forget_back_off(service)
    assert (await service.get(TOKEN)).status == 200


@pytest.mark.parametrize("standing", [Standing.FORBIDDEN, Standing.GONE])
async def test_a_shop_that_is_gone_is_asked_three_times_over_a_day(
    start: Any, shopify: MockShopify, standing: Standing
) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    shopify.shop(SHOP).standing = standing
    for _ in range(2):
        assert (await service.get(TOKEN)).body["code"] == "shop_unavailable"
        assert (await service.get(TOKEN)).body["code"] == "shop_unavailable"
        await forget_back_off(service)
    assert (await service.get(TOKEN)).body["code"] == "reauth_required"
    assert refreshes(shopify) == 3


@pytest.mark.parametrize("status", [429, 500, 520])
async def test_errors_of_shopifys_are_repeated_and_cost_no_session(
    start: Any, shopify: MockShopify, status: int
) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    shopify.faults.add(Fault.answers(status, times=3))
    answer = await service.get(TOKEN)
    assert (answer.status, answer.body["code"]) == (503, "upstream_unavailable")
    assert answer.body["retryable"] is True
    # Until the back-off is over nobody asks again.
    again = await service.get(TOKEN)
    assert (again.status, again.body["code"]) == (503, "upstream_unavailable")
    assert int(again.headers["Retry-After"]) <= 30
    assert refreshes(shopify) == 3
    await forget_back_off(service)
    assert (await service.get(TOKEN)).status == 200


async def test_a_page_in_place_of_an_answer_is_no_pair(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    shopify.faults.add(Fault.answers(200), Fault.answers(200, body="[1]"))
    answer = await service.get(TOKEN)
    assert (answer.status, refreshes(shopify)) == (200, 3)


async def test_a_token_that_lives_is_handed_out_while_shopify_fails(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    document = session(shopify, SHOP, left_s=200)
    await put(service, document)
    shopify.faults.add(Fault.answers(503, times=3))
    for _ in range(3):
        answer = await service.get(TOKEN)
        assert (answer.status, answer.body["access_token"]) == (200, document["accessToken"])
    assert refreshes(shopify) == 3


async def test_a_token_that_lives_is_not_waited_for(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    document = session(shopify, SHOP, left_s=200)
    await put(service, document)
    answered = asyncio.Event()
    shopify.faults.add(Fault(hold=answered))
    began = time.monotonic()
    answer = await service.get(TOKEN)
    assert (answer.status, answer.body["access_token"]) == (200, document["accessToken"])
    assert time.monotonic() - began < 4
    answered.set()


async def test_min_ttl_renews_what_would_live_shorter(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    document = session(shopify, SHOP, left_s=600)
    await put(service, document)
    assert (await service.get(TOKEN)).body["access_token"] == document["accessToken"]
    answer = await service.get(f"{TOKEN}?min_ttl=900")
    assert answer.body["access_token"] != document["accessToken"]
    assert works(shopify, SHOP, answer.body["access_token"])
    assert refreshes(shopify) == 1
    assert (await service.get(f"{TOKEN}?min_ttl=3001")).status == 422


async def test_both_secrets_are_taken_while_one_is_rotated(
    start: Any, shopify: MockShopify
) -> None:
    given = settings(
        shopify, shopify_api_secret="shpss_new", shopify_api_secret_old=shopify.api_secret
    )
    service = await start(**given)
    await put(service, session(shopify, SHOP, left_s=0))
    assert (await service.get(TOKEN)).status == 200
    assert refreshes(shopify) == 2


async def test_when_every_shop_fails_it_is_the_configuration(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify, shopify_api_secret="shpss_wrong"))
    shops = [f"shop-{n}.myshopify.com" for n in range(6)]
    for shop in shops:
        await put(service, session(shopify, shop, left_s=0))
    for shop in shops:
        answer = await service.get(f"/v1/shops/{shop}/token")
        assert (answer.status, answer.body["code"]) == (503, "upstream_unavailable")
    assert len(shopify.called("token")) == 3
    for shop in shops:
        assert (await service.get(f"/v1/sessions/offline_{shop}")).status == 200
    healthy = await start(**settings(shopify))
    await forget_back_off(healthy)
    assert (await healthy.get(f"/v1/shops/{shops[0]}/token")).status == 200


async def test_one_shop_that_shopify_does_not_know_stops_no_other(
    start: Any, shopify: MockShopify
) -> None:
    shopify.rules.uninstalled_is_invalid_client = True
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    await put(service, session(shopify, "other.myshopify.com", left_s=0))
    shopify.uninstall(SHOP)
    for _ in range(5):
        await forget_back_off(service)
        assert (await service.get(TOKEN)).status == 503
    assert (await service.get("/v1/shops/other.myshopify.com/token")).status == 200


async def test_a_shop_that_is_none_is_never_called(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, "evil.example.com", left_s=0))
    answer = await service.get("/v1/shops/evil.example.com/token")
    assert (answer.status, answer.body["code"]) == (422, "invalid_shop")
    assert not shopify.called("token")


@pytest.mark.parametrize("ahead_s", [-10, 10])
async def test_clocks_that_differ_by_ten_seconds_do_no_harm(
    start: Any, shopify: MockShopify, ahead_s: int
) -> None:
    shopify.clock.advance(ahead_s)
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    answer = await service.get(TOKEN)
    good_s = answer.body["expires"] / 1000 - time.time() - 300
    shopify.clock.advance(good_s)
    assert works(shopify, SHOP, answer.body["access_token"])


async def test_a_session_that_was_deleted_meanwhile_does_not_come_back(
    start: Any, shopify: MockShopify
) -> None:
    service = await start(**settings(shopify))
    await put(service, session(shopify, SHOP, left_s=0))
    answered = asyncio.Event()
    shopify.faults.add(Fault(after=True, hold=answered))
    asking = asyncio.create_task(service.get(TOKEN))
    await eventually(lambda: refreshes(shopify) == 1)
    await service.call("DELETE", PATH)
    answered.set()
    assert (await asking).status == 404
    assert (await service.get(PATH)).status == 404
