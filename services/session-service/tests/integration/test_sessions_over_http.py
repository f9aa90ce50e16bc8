"""The contract of a session, through the door."""

import base64
import time
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

SHOP = "greek-olives.myshopify.com"
OTHER = "other.myshopify.com"
SECRETS = ("accessToken", "refreshToken")
WRITER = frozenset({"sessions:read", "sessions:write"})


def now_ms() -> int:
    return int(time.time() * 1000)


def offline(shop: str = SHOP, **more: Any) -> dict[str, Any]:
    return {
        "id": f"offline_{shop}",
        "shop": shop,
        "state": "x1",
        "isOnline": False,
        "scope": "read_products,write_orders",
        "accessToken": "shpat_0123456789abcdef",
        "refreshToken": "shprt_fedcba9876543210",
        "expires": now_ms() + 3_600_000,
        "refreshTokenExpires": now_ms() + 7_776_000_000,
        **more,
    }


def path(session_id: str) -> str:
    return f"/v1/sessions/{quote(session_id, safe='')}"


async def put(service: Any, session: dict[str, Any], **how: Any) -> Any:
    return await service.call("PUT", path(session["id"]), session, **how)


async def test_what_is_put_is_what_is_read_with_members_nobody_knows(service: Any) -> None:
    session = offline(
        onlineAccessInfo=None,
        futureMember={"πρώτο": [1, 1.5, True, None, "🫒"], "accessToken": "not ours"},
        big=2**63,
        is_online="not the member that it looks like",
    )
    stored = await put(service, session)
    assert stored.status == 200
    read = await service.call("GET", path(session["id"]))
    assert read.body == session
    assert read.headers["ETag"] == stored.headers["ETag"] == f'"{stored.body["version"]}"'
    assert read.headers["Cache-Control"] == "no-store"
    assert read.headers["Mainstay-Backend"] in ("postgres", "memory")
    assert "Degraded" not in read.headers


async def test_a_put_replaces_the_whole_session(service: Any) -> None:
    await put(service, offline(extra=1))
    smaller = {"id": f"offline_{SHOP}", "shop": SHOP, "accessToken": "shpat_b"}
    await put(service, smaller)
    assert (await service.call("GET", path(smaller["id"]))).body == smaller


@pytest.mark.parametrize(
    "session_id",
    [
        "6f1c7f0e-4a58-4f52-9d0a-9b5b2a3c8d11",
        "a/b/c",
        "50% {off} έλα 🙂 ?&#+\\",
        "x" * 512,
        "line\nbreak",
        "%2F",
    ],
)
async def test_ids_of_any_shape(service: Any, session_id: str) -> None:
    session = offline(id=session_id)
    assert (await put(service, session)).status == 200
    assert (await service.call("GET", path(session_id))).body == session
    assert (await service.call("DELETE", path(session_id))).status == 204
    assert (await service.call("GET", path(session_id))).status == 404


@pytest.mark.parametrize("raw", ["%00", "%ff", "x" * 513])
async def test_what_is_no_id_is_not_found(service: Any, raw: str) -> None:
    answer = await service.call("GET", f"/v1/sessions/{raw}")
    assert answer.status == 404
    assert answer.body["code"] == "not_found"


@pytest.mark.parametrize(
    ("session", "pointer"),
    [
        (offline(id="another"), "/id"),
        (offline(id=f"offline_{SHOP}", shop=OTHER), "/shop"),
        (offline(id=f"{SHOP}_42", shop=OTHER), "/shop"),
        (offline(expires="2026-11-24T00:00:00Z"), "/expires"),
        (offline(refreshTokenExpires=-1), "/refreshTokenExpires"),
        (offline(isOnline="yes"), "/isOnline"),
        (offline(accessToken=5), "/accessToken"),
        (offline(shop=" "), "/shop"),
    ],
)
async def test_a_wrong_session_is_refused_where_it_is_wrong(
    service: Any, session: dict[str, Any], pointer: str
) -> None:
    asked = session["id"] if pointer != "/id" else f"offline_{SHOP}"
    answer = await service.call("PUT", path(asked), session)
    assert answer.status == 422
    assert pointer in [flaw["pointer"] for flaw in answer.body["errors"]]
    assert (await service.call("GET", path(asked))).status == 404


async def test_bad_bytes_are_named_and_nothing_is_stored(service: Any) -> None:
    target = path(f"offline_{SHOP}")
    assert (await service.call("PUT", target, raw=b'{"id": 1')).status == 400
    assert (await service.call("PUT", target, raw=b'{"a": 1, "a": 2}')).status == 400
    assert (await service.call("PUT", target, offline(x="a\x00b"))).status == 422
    assert (await service.call("PUT", target, offline(x="y" * 1_100_000))).status == 413
    assert (await service.call("GET", target)).status == 404


async def test_tokens_are_for_those_who_may_read_them(service: Any) -> None:
    session = offline()
    await put(service, session)
    masked = (await service.call("GET", path(session["id"]), scopes=WRITER)).body
    assert masked == {
        name: value
        for name, value in session.items()
        if name not in ("accessToken", "refreshToken")
    }
    listed = await service.call("GET", f"/v1/shops/{SHOP}/sessions", scopes=WRITER)
    assert listed.body["items"] == [masked]
    refused = await service.call("GET", f"/v1/shops/{SHOP}/token", scopes=WRITER)
    assert (refused.status, refused.body["code"]) == (403, "missing_scope")


@pytest.mark.parametrize("more", [{}, {"accessToken": "evil", "refreshToken": "evil"}])
async def test_who_may_not_read_tokens_neither_erases_nor_replaces_them(
    service: Any, more: dict[str, str]
) -> None:
    session = offline()
    await put(service, session)
    read = (await service.call("GET", path(session["id"]), scopes=WRITER)).body
    answer = await put(service, {**read, "state": "x2", "added": 1, **more}, scopes=WRITER)
    assert answer.status == 200
    now = (await service.call("GET", path(session["id"]))).body
    assert now == {**session, "state": "x2", "added": 1}


async def test_the_same_put_twice_is_one(service: Any) -> None:
    first = await put(service, offline(expires=1))
    again = await put(service, offline(expires=1, refreshTokenExpires=None))
    assert again.body["version"] > first.body["version"]
    repeated = await put(service, offline(expires=1, refreshTokenExpires=None))
    assert repeated.body == again.body


async def test_if_match_keeps_one_writer_from_undoing_another(service: Any) -> None:
    session = offline()
    nothing_there = await put(service, session, headers={"If-Match": "*"})
    assert (nothing_there.status, nothing_there.body["code"]) == (412, "version_conflict")
    etag = (await put(service, session)).headers["ETag"]
    changed = await put(service, {**session, "state": "x2"}, headers={"If-Match": etag})
    assert changed.status == 200
    late = await put(service, {**session, "state": "x3"}, headers={"If-Match": etag})
    assert late.status == 412
    assert (await put(service, session, headers={"If-Match": "17"})).status == 422
    assert (await service.call("GET", path(session["id"]))).body["state"] == "x2"


async def test_versions_never_come_again(service: Any) -> None:
    session = offline()
    first = (await put(service, session)).body["version"]
    await service.call("DELETE", path(session["id"]))
    assert (await put(service, session)).body["version"] > first


async def test_a_key_of_a_shop_sees_that_shop_alone(service: Any) -> None:
    mine, theirs = offline(SHOP), offline(OTHER)
    await put(service, mine)
    await put(service, theirs)

    async def as_shop(method: str, target: str, value: Any = None) -> tuple[int, str | None]:
        answer = await service.call(method, target, value, shop=SHOP)
        failed = answer.status >= 400
        return answer.status, answer.body["code"] if failed else None

    assert await as_shop("GET", path(mine["id"])) == (200, None)
    assert await as_shop("GET", path(theirs["id"])) == (404, "session_not_found")
    assert await as_shop("PUT", path(theirs["id"]), theirs) == (403, "other_shop")
    assert await as_shop("GET", f"/v1/shops/{OTHER}/sessions") == (403, "other_shop")
    assert await as_shop("GET", f"/v1/shops/{OTHER}/token") == (403, "other_shop")
    assert await as_shop("DELETE", f"/v1/shops/{OTHER}") == (403, "other_shop")
    assert await as_shop("DELETE", path(theirs["id"])) == (204, None)
    await service.call("POST", "/v1/sessions:batchDelete", {"ids": [theirs["id"]]}, shop=SHOP)
    assert (await service.call("GET", path(theirs["id"]))).body == theirs


async def test_a_key_of_a_shop_never_takes_over_another_shops_session(service: Any) -> None:
    theirs = offline(OTHER, id="shared-id")
    await put(service, theirs)
    answer = await put(service, offline(SHOP, id="shared-id"), shop=SHOP)
    assert (answer.status, answer.body["code"]) == (409, "id_taken")
    assert (await service.call("GET", path("shared-id"))).body == theirs


async def test_shops_are_compared_in_lower_case(service: Any) -> None:
    session = offline("Greek-Olives.myshopify.com")
    await put(service, session, shop="GREEK-olives.myshopify.com")
    listed = await service.call("GET", f"/v1/shops/{SHOP.upper()}/sessions")
    assert listed.body["items"] == [session]
    token = await service.call("GET", f"/v1/shops/{SHOP}/token", shop=SHOP)
    assert token.body["access_token"] == session["accessToken"]


async def test_deleting_is_idempotent(service: Any) -> None:
    ids = [f"{SHOP}_{number}" for number in range(3)]
    for each in ids:
        await put(service, offline(id=each))
    assert (await service.call("DELETE", path(ids[0]))).status == 204
    assert (await service.call("DELETE", path(ids[0]))).status == 204
    batch = {"ids": [*ids, ids[1], "never there", "x" * 600]}
    assert (await service.call("POST", "/v1/sessions:batchDelete", batch)).body == {"deleted": 2}
    assert (await service.call("POST", "/v1/sessions:batchDelete", batch)).body == {"deleted": 0}
    assert (await service.call("POST", "/v1/sessions:batchDelete", {"ids": []})).status == 200
    too_many = {"ids": ["x"] * 1001}
    assert (await service.call("POST", "/v1/sessions:batchDelete", too_many)).status == 422


async def test_a_shops_sessions_come_in_pages(service: Any) -> None:
    ids = sorted(f"{SHOP}_{number}" for number in range(7))
    for each in ids:
        await put(service, offline(id=each))
    await put(service, offline(OTHER))
    seen: list[str] = []
    target: str | None = f"/v1/shops/{SHOP}/sessions?limit=3"
    while target is not None:
        answer = await service.call("GET", target)
        seen += [item["id"] for item in answer.body["items"]]
        link = answer.headers.get("Link")
        assert (link is None) == (answer.body["next_cursor"] is None)
        target = link.partition(">")[0].lstrip("<") if link else None
    assert seen == ids
    assert (await service.call("GET", "/v1/shops/nobody/sessions")).body["items"] == []
    for query in ("limit=0", "cursor=zzz", "unknown=1", f"cursor={_cursor('[7]')}"):
        assert (await service.call("GET", f"/v1/shops/{SHOP}/sessions?{query}")).status == 422


def _cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


async def test_the_token_of_a_shop(service: Any) -> None:
    session = offline()
    stored = await put(service, session)
    answer = await service.call("GET", f"/v1/shops/{SHOP}/token")
    assert answer.body == {
        "access_token": session["accessToken"],
        "scope": session["scope"],
        "expires": session["expires"],
        "version": stored.body["version"],
    }
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_token_that_does_not_end_says_so(service: Any) -> None:
    await put(service, {"id": "any id", "shop": SHOP, "accessToken": "shpat_old"})
    answer = await service.call("GET", f"/v1/shops/{SHOP}/token")
    assert (answer.status, answer.body["expires"], answer.body["scope"]) == (200, None, None)


async def test_the_token_of_a_member_of_staff(service: Any) -> None:
    info = {"associated_user": {"id": 902541635, "email": "j@example.com"}}
    by_rule = offline(id=f"{SHOP}_7", isOnline=True, accessToken="shpat_seven")
    by_info = offline(
        id="a-cookie", isOnline=True, onlineAccessInfo=info, accessToken="shpat_staff"
    )
    await put(service, by_rule)
    await put(service, by_info)
    for user, token in ((7, "shpat_seven"), (902541635, "shpat_staff")):
        answer = await service.call("GET", f"/v1/shops/{SHOP}/token?mode=online&user_id={user}")
        assert answer.body["access_token"] == token
    assert (await service.call("GET", f"/v1/shops/{SHOP}/token?mode=online")).status == 422
    assert (await service.call("GET", f"/v1/shops/{SHOP}/token?user_id=7")).status == 422
    assert (await service.call("GET", f"/v1/shops/{SHOP}/token")).status == 404


@pytest.mark.parametrize(
    "more", [{"expires": 1_700_000_000_000, "refreshToken": None}, {"accessToken": None}]
)
async def test_a_token_that_does_not_work_is_not_handed_out(
    service: Any, more: dict[str, Any]
) -> None:
    await put(service, offline(**more))
    answer = await service.call("GET", f"/v1/shops/{SHOP}/token")
    assert (answer.status, answer.body["code"]) == (409, "reauth_required")


async def test_without_an_app_at_shopify_nothing_is_renewed(service: Any) -> None:
    await put(service, offline(expires=1_700_000_000_000))
    answer = await service.call("GET", f"/v1/shops/{SHOP}/token")
    assert (answer.status, answer.body["code"]) == (503, "shopify_not_configured")


async def test_a_shop_without_a_session_has_no_token(service: Any) -> None:
    answer = await service.call("GET", f"/v1/shops/{SHOP}/token")
    assert (answer.status, answer.body["code"]) == (404, "session_not_found")


async def test_purging_a_shop_leaves_others_and_what_came_later(
    service: Any, database: str
) -> None:
    await put(service, offline())
    await put(service, offline(id=f"{SHOP}_1"))
    await put(service, offline(OTHER))
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            "update shopify_session set granted_at = '2026-01-01Z' where id like '%\\_1'"
        )
    finally:
        await connection.close()
    early = await service.call("DELETE", f"/v1/shops/{SHOP}?before=2026-01-02T00:00:00Z")
    assert early.body == {"deleted": 1}
    assert (await service.call("DELETE", f"/v1/shops/{SHOP}")).body == {"deleted": 1}
    assert (await service.call("DELETE", f"/v1/shops/{SHOP}")).body == {"deleted": 0}
    assert (await service.call("GET", path(f"offline_{OTHER}"))).status == 200
    naive = await service.call("DELETE", f"/v1/shops/{SHOP}?before=2026-01-02T00:00:00")
    assert naive.status == 422


async def test_without_a_good_token_nobody_gets_in(service: Any) -> None:
    async with service.http.get(service.url + path("x")) as answer:
        assert answer.status == 401
    none = await service.call("GET", path("x"), scopes=frozenset({"jobs:read"}))
    assert (none.status, none.body["code"]) == (403, "missing_scope")
    read_only = await put(service, offline(), scopes=frozenset({"sessions:read"}))
    assert read_only.status == 403
