"""Session tokens of App Bridge: believed, and exchanged for tokens that Shopify takes."""

import asyncio
import time
from typing import Any

import jwt
import pytest_asyncio

from testkit.shopify.faults import Fault
from testkit.shopify.server import MockShopify

SHOP = "greek-olives.myshopify.com"
OTHER = "other.myshopify.com"
EXCHANGE, VERIFY = "/v1/token-exchange", "/v1/session-tokens/verify"
RETRY = "X-Shopify-Retry-Invalid-Session-Request"
READER = frozenset({"sessions:read"})


def at(shopify: MockShopify, **more: Any) -> dict[str, Any]:
    return {
        "shopify_api_key": shopify.api_key,
        "shopify_api_secret": shopify.api_secret,
        "shopify_shop_origin": shopify.origin,
        "shopify_app_url": "https://app.example",
        **more,
    }


@pytest_asyncio.fixture
async def app(start: Any, shopify: MockShopify) -> Any:
    return await start(**at(shopify))


def works(shopify: MockShopify, token: str, shop: str = SHOP) -> bool:
    return shopify.shop(shop).wallet.find(token, shopify.clock.now()) is not None


def exchanges(shopify: MockShopify, shop: str = SHOP) -> int:
    return len(shopify.called("token", shop, "exchange"))


async def exchange(service: Any, token: str, **more: Any) -> Any:
    how = {name: more.pop(name) for name in ("shop", "scopes") if name in more}
    return await service.post(EXCHANGE, {"session_token": token, **more}, **how)


async def test_a_token_is_told_what_it_says(app: Any, shopify: MockShopify) -> None:
    token = shopify.session_token(SHOP, user_id=7)
    answer = await app.post(VERIFY, {"session_token": token}, scopes=READER)
    said = jwt.decode(token, options={"verify_signature": False})
    assert (answer.status, answer.body) == (200, {"shop": SHOP, "user_id": 7, **said})
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_token_that_is_not_believed_is_asked_for_again(
    app: Any, shopify: MockShopify
) -> None:
    for token in (
        "no.token.atall",
        shopify.session_token(SHOP, secret="another-secret-than-that-of-the-app"),
        shopify.session_token(SHOP, aud="another-app"),
        shopify.session_token(SHOP, iss=f"https://{OTHER}/admin"),
        shopify.session_token(SHOP, exp=int(time.time()) - 11),
        shopify.session_token(SHOP, nbf=int(time.time()) + 12),
        shopify.session_token("evil.example"),
    ):
        for path in (VERIFY, EXCHANGE):
            answer = await app.post(path, {"session_token": token})
            assert (answer.status, answer.body["code"]) == (401, "invalid_session_token"), token
            assert answer.headers[RETRY] == "1"
            assert token not in answer.raw.decode()
    assert shopify.called("token") == []


async def test_a_session_token_brings_a_token_that_works(app: Any, shopify: MockShopify) -> None:
    answer = await exchange(app, shopify.session_token(SHOP, user_id=7))
    assert answer.status == 200, answer.raw
    assert (answer.body["session_id"], answer.body["shop"], answer.body["user_id"]) == (
        f"offline_{SHOP}", SHOP, None,
    )  # fmt: skip
    assert works(shopify, answer.body["access_token"])
    assert answer.body["expires"] > time.time() * 1000
    assert answer.headers["Cache-Control"] == "no-store"
    session = (await app.get(f"/v1/sessions/offline_{SHOP}")).body
    assert session["accessToken"] == answer.body["access_token"]
    assert session["refreshToken"].startswith("shprt_")


async def test_while_a_token_works_no_other_is_fetched_unless_forced(
    app: Any, shopify: MockShopify
) -> None:
    first = await exchange(app, shopify.session_token(SHOP, user_id=7))
    second = await exchange(app, shopify.session_token(SHOP, user_id=8))
    assert first.body == second.body
    assert exchanges(shopify) == 1
    third = await exchange(app, shopify.session_token(SHOP), force=True)
    assert third.body["access_token"] != first.body["access_token"]
    assert works(shopify, third.body["access_token"])
    assert third.body["version"] > first.body["version"]


async def test_staff_who_open_the_app_at_once_do_not_end_each_others_token(
    start: Any, app: Any, shopify: MockShopify
) -> None:
    services = (app, await start(**at(shopify)))
    answers = await asyncio.gather(
        *(
            exchange(services[user % 2], shopify.session_token(SHOP, user_id=user + 1))
            for user in range(20)
        )
    )
    assert {answer.status for answer in answers} == {200}
    (token,) = {answer.body["access_token"] for answer in answers}
    assert works(shopify, token)
    assert exchanges(shopify) == 1


async def test_every_member_of_staff_has_an_online_token_of_their_own(
    app: Any, shopify: MockShopify
) -> None:
    one, two = [
        await exchange(app, shopify.session_token(SHOP, user_id=user), mode="online")
        for user in (7, 8)
    ]
    assert (one.body["session_id"], one.body["user_id"]) == (f"{SHOP}_7", 7)
    assert one.body["access_token"] != two.body["access_token"]
    again = await exchange(app, shopify.session_token(SHOP, user_id=7), mode="online")
    assert again.body == one.body
    token = await app.get(f"/v1/shops/{SHOP}/token?mode=online&user_id=8")
    assert token.body["access_token"] == two.body["access_token"]


async def test_who_names_no_user_has_no_online_token(app: Any, shopify: MockShopify) -> None:
    for sub in (None, "gid://shopify/Customer/1"):
        answer = await exchange(app, shopify.session_token(SHOP, sub=sub), mode="online")
        assert (answer.status, answer.body["code"]) == (401, "invalid_session_token")
    assert shopify.called("token") == []


async def test_the_shop_is_that_of_the_token_and_of_the_key(app: Any, shopify: MockShopify) -> None:
    token = shopify.session_token(SHOP)
    for path in (VERIFY, EXCHANGE):
        denied = await app.post(path, {"session_token": token}, shop=OTHER)
        assert (denied.status, denied.body["code"]) == (403, "other_shop")
    assert exchanges(shopify) == 0
    assert (await exchange(app, token, shop=SHOP)).status == 200


async def test_tokens_are_for_those_who_may_read_them(app: Any, shopify: MockShopify) -> None:
    token = shopify.session_token(SHOP)
    writer = frozenset({"sessions:read", "sessions:write"})
    denied = await exchange(app, token, scopes=writer)
    assert (denied.status, denied.body["code"]) == (403, "missing_scope")


async def test_both_secrets_count_while_one_replaces_the_other(
    start: Any, shopify: MockShopify
) -> None:
    old = shopify.api_secret
    new = shopify.rotate_secret()
    service = await start(**at(shopify, shopify_api_secret=new, shopify_api_secret_old=old))
    for secret in (new, old):
        token = shopify.session_token(SHOP, secret=secret)
        assert (await service.post(VERIFY, {"session_token": token})).status == 200


async def test_what_shopify_does_not_take_is_asked_for_again(
    app: Any, shopify: MockShopify
) -> None:
    refusal = '{"error":"invalid_subject_token"}'
    shopify.faults.add(Fault(status=400, body=refusal, content_type="application/json"))
    answer = await exchange(app, shopify.session_token(SHOP))
    assert (answer.status, answer.body["code"]) == (401, "invalid_session_token")
    assert answer.headers[RETRY] == "1"
    assert (await app.get(f"/v1/sessions/offline_{SHOP}")).status == 404


async def test_a_lost_answer_is_asked_for_again(app: Any, shopify: MockShopify) -> None:
    shopify.faults.add(Fault.lost(detail="exchange"))
    answer = await exchange(app, shopify.session_token(SHOP))
    assert answer.status == 200
    assert works(shopify, answer.body["access_token"])


async def test_without_an_app_nobody_is_believed(start: Any, shopify: MockShopify) -> None:
    for missing in ("shopify_api_key", "shopify_api_secret"):
        service = await start(**{k: v for k, v in at(shopify).items() if k != missing})
        for path in (VERIFY, EXCHANGE):
            answer = await service.post(path, {"session_token": shopify.session_token(SHOP)})
            assert (answer.status, answer.body["code"]) == (503, "shopify_not_configured")
