"""Who may come in, and what is said to those who may not."""

import asyncio
import io
from typing import Any
from urllib.parse import urlsplit

from testkit.signals import eventually

from .conftest import ADMIN_KEY


async def test_without_a_good_key_nobody_comes_in(gateway: Any) -> None:
    status, body, headers = await gateway.tell("GET", "/v1/jobs", key=None)
    assert (status, body["code"], body["type"]) == (
        401, "unauthenticated", "urn:mainstay:problem:unauthenticated",
    )  # fmt: skip
    assert headers["Content-Type"].startswith("application/problem+json")
    assert headers["WWW-Authenticate"] == "Bearer"
    assert body["trace_id"] in headers["traceparent"]
    assert (await gateway.tell("GET", "/v1/jobs", key="nonsense"))[0] == 401
    mistyped = (await gateway.key("jobs:read"))[:-1] + "!"
    assert (await gateway.tell("GET", "/v1/jobs", key=mistyped))[0] == 401


async def test_a_key_may_do_what_its_scopes_say(gateway: Any, job: Any) -> None:
    reader = await gateway.key("jobs:read")
    assert (await gateway.tell("GET", "/v1/jobs", key=reader))[0] == 200
    status, body, _ = await gateway.tell("POST", "/v1/jobs", key=reader, json=job)
    assert (status, body["code"]) == (403, "missing_scope")
    assert (await gateway.tell("GET", "/v1/keys", key=reader))[0] == 403
    assert (await gateway.tell("GET", "/v1/system", key=reader))[0] == 403


async def test_a_key_with_a_shop_sees_only_that_shop(gateway: Any, job: Any) -> None:
    scopes = ("jobs:write", "jobs:read", "sessions:read", "admin")
    key = await gateway.key(*scopes[:3], shop="A.myshopify.com")
    status, body, _ = await gateway.tell("POST", "/v1/jobs", key=key, json=job)
    assert (status, body["shop"]) == (201, "a.myshopify.com")
    other = {**job, "shop": "b.myshopify.com"}
    status, body, _ = await gateway.tell("POST", "/v1/jobs", key=key, json=other)
    assert (status, body["code"]) == (403, "other_shop")
    assert (await gateway.tell("GET", "/v1/shops/A.MYSHOPIFY.com/sessions", key=key))[0] == 200
    assert (await gateway.tell("GET", "/v1/shops/b.myshopify.com/sessions", key=key))[0] == 403
    said = {"Mainstay-Shop": "b.myshopify.com"}
    assert (await gateway.tell("GET", "/v1/jobs", key=key, headers=said))[0] == 403
    caller = gateway.owners.session.callers[-1]
    assert (caller.shop, "sessions:read" in caller.scopes) == ("a.myshopify.com", True)


async def test_a_withdrawn_key_is_shut_out_on_every_replica(make_gateway: Any) -> None:
    one = await make_gateway()
    other = await make_gateway(database_url=one.dsn)
    created = await one.tell("POST", "/v1/keys", json={"name": "x", "scopes": ["jobs:read"]})
    key = created[1]["key"]
    assert (await other.tell("GET", "/v1/jobs", key=key))[0] == 200
    assert (await one.tell("DELETE", f"/v1/keys/{created[1]['id']}"))[0] == 204

    async def is_out() -> bool:
        return bool((await other.tell("GET", "/v1/jobs", key=key))[0] == 401)

    await eventually(is_out, 3.0)
    assert (await one.tell("DELETE", f"/v1/keys/{created[1]['id']}"))[0] == 404


async def test_a_key_is_shown_once_and_known_by_its_hash_alone(gateway: Any) -> None:
    wanted = {"name": "app", "scopes": ["jobs:read"], "expires_at": "2099-01-01T00:00:00Z"}
    headers = {"Idempotency-Key": "k"}
    status, first, said = await gateway.tell("POST", "/v1/keys", json=wanted, headers=headers)
    assert (status, said["Cache-Control"]) == (201, "no-store")
    assert first["key"].startswith(f"msk_{first['id']}_")
    status, again, said = await gateway.tell("POST", "/v1/keys", json=wanted, headers=headers)
    assert (status, again, said["Idempotent-Replay"]) == (200, {**first, "key": None}, "true")
    status, body, _ = await gateway.tell(
        "POST", "/v1/keys", json={**wanted, "name": "other"}, headers=headers
    )
    assert (status, body["code"]) == (422, "idempotency_key_reused")
    status, listed, _ = await gateway.tell("GET", "/v1/keys")
    assert (status, [each["id"] for each in listed["items"]]) == (200, [first["id"]])
    assert first["key"] not in str(listed)


WRONG_KEYS: list[dict[str, Any]] = [
    {"name": "x", "scopes": ["root"]},
    {"name": "x", "scopes": []},
    {"name": "", "scopes": ["admin"]},
    {"name": "x", "scopes": ["admin"], "expires_at": "2020-01-01T00:00:00Z"},
    {"name": "x", "scopes": ["admin"], "zap": 1},
]


async def test_a_wrong_key_is_not_made(gateway: Any) -> None:
    for wanted in WRONG_KEYS:
        status, body, _ = await gateway.tell("POST", "/v1/keys", json=wanted)
        assert status == 422, wanted
        assert body["errors"], wanted
    assert (await gateway.tell("GET", "/v1/keys"))[1]["items"] == []


async def test_failed_authentication_is_limited_and_never_locks_out_a_valid_key(
    gateway: Any,
) -> None:
    key = await gateway.key("jobs:read")
    statuses = [(await gateway.tell("GET", "/v1/jobs", key=f"bad{n}"))[0] for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    status, body, headers = await gateway.tell("GET", "/v1/jobs", key="bad")
    assert (status, body["code"]) == (429, "too_many_failures")
    assert int(headers["Retry-After"]) >= 1
    assert (await gateway.tell("GET", "/v1/jobs", key=key))[0] == 200
    assert (await gateway.tell("GET", "/v1/jobs", key=ADMIN_KEY))[0] == 200


async def test_known_keys_pass_while_the_database_is_away(
    make_gateway: Any, make_database: Any, job: Any
) -> None:
    from gateway.__main__ import MIGRATIONS
    from testkit.faults import TcpProxy

    dsn = await make_database(MIGRATIONS)
    async with TcpProxy.before(dsn) as proxy:
        gateway = await make_gateway(database_url=proxy.url(dsn))
        known = await gateway.key("jobs:write")
        from gateway.core import keys as core_keys

        _id, unknown = core_keys.mint()
        await proxy.refuses()
        assert (await gateway.tell("POST", "/v1/jobs", key=known, json=job))[0] == 201
        status, body, _ = await gateway.tell("POST", "/v1/jobs", key=unknown, json=job)
        assert (status, body["code"]) == (503, "database_unavailable")


JSON = {"Content-Type": "application/json"}
DEEP = b'{"kind":"x","args":{"a":' + b"[" * 80 + b"]" * 80 + b"}}"
BAD = {
    "not JSON": (b"{", JSON, 400),
    "a bare word": (b"hello", JSON, 400),
    "NaN": (b'{"kind":"x","args":{"a":NaN}}', JSON, 400),
    "a duplicate member": (b'{"kind":"x","kind":"y"}', JSON, 400),
    "invalid UTF-8": (b'{"kind":"\xff"}', JSON, 400),
    "an empty body": (b"", JSON, 400),
    "U+0000": (b'{"kind":"x","args":{"a":"\\u0000"}}', JSON, 422),
    "a lone surrogate": (b'{"kind":"x","args":{"a":"\\ud800"}}', JSON, 422),
    "too deep": (DEEP, JSON, 422),
    "a huge integer": (b'{"kind":"x","args":{"a":123456789012345678901234567890}}', JSON, 422),
    "a wrong type": (b'{"kind":5}', JSON, 422),
    "no kind": (b"{}", JSON, 422),
    "an unknown member": (b'{"kind":"x","zap":1}', JSON, 422),
    "an id of version 5": (
        b'{"kind":"x","id":"2ed6657d-e927-568b-95e1-2665a8aea6a2"}', JSON, 422,
    ),
    "two times": (
        b'{"kind":"x","delay_s":1,"run_at":"2030-01-01T00:00:00Z"}', JSON, 422,
    ),
    "a list": (b"[]", JSON, 422),
    "another type": (b"kind=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "an encoding": (b'{"kind":"x"}', {**JSON, "Content-Encoding": "br"}, 415),
    "too large": (b'{"kind":"x","args":{"a":"' + b"y" * 2**21 + b'"}}', JSON, 413),
    "large args": (b'{"kind":"x","args":{"a":"' + b"y" * 300_000 + b'"}}', JSON, 422),
    "a long Idempotency-Key": (b'{"kind":"x"}', {**JSON, "Idempotency-Key": "k" * 256}, 422),
    "no deadline": (b'{"kind":"x"}', {**JSON, "Request-Timeout-Ms": "soon"}, 422),
}  # fmt: skip


async def test_bad_input_is_named_and_leaves_nothing(gateway: Any) -> None:
    """One gateway for all of them: what is refused leaves it as it was."""
    for name, (raw_body, headers, expected) in BAD.items():
        status, body, said = await gateway.tell(
            "POST", "/v1/jobs", data=io.BytesIO(raw_body), headers=headers
        )
        assert (status, body["status"]) == (expected, expected), name
        assert said["Content-Type"].startswith("application/problem+json"), name
        assert body["detail"], name
    assert gateway.owners.queue.jobs == {}
    assert gateway.owners.queue.loads == []


async def test_paths_and_methods_that_are_not_there_are_problems_too(gateway: Any) -> None:
    assert (await gateway.tell("GET", "/v1/nothing"))[1]["code"] == "not_found"
    status, body, headers = await gateway.tell("PATCH", "/v1/jobs")
    assert (status, body["code"]) == (405, "method_not_allowed")
    assert "POST" in headers["Allow"]
    assert (await gateway.tell("GET", "/v1/jobs/not-an-id"))[0] == 404
    assert (await gateway.tell("POST", "/internal/v1/jobs:accept", json={}))[0] == 404
    status, _, _ = await gateway.tell("POST", "/internal/v1/events", json={"events": []})
    assert status == 401


async def test_a_shop_that_is_none_is_refused_before_anybody_is_asked(gateway: Any) -> None:
    key = await gateway.key("jobs:read", "sessions:read")
    for shop in ("%00", "s" * 256, "a%1Fb"):
        status, body, _ = await gateway.tell("GET", f"/v1/shops/{shop}/sessions", key=key)
        assert (status, body["code"]) in {(422, "invalid"), (404, "not_found")}, shop
    for value in (b"\xff\xfe", b"s" * 256):
        answer = await raw(
            gateway,
            b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\nMainstay-Shop: "
            + value
            + f"\r\nAuthorization: Bearer {key}\r\n\r\n".encode(),
        )
        assert answer.startswith(b"HTTP/1.1 422 "), value
    assert gateway.owners.ratelimit.asked == []


async def test_an_absolute_request_goes_nowhere_else(gateway: Any) -> None:
    answer = await raw(
        gateway,
        b"GET http://elsewhere.test/v1/jobs?limit=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        + f"Authorization: Bearer {ADMIN_KEY}\r\n\r\n".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert gateway.owners.queue.paths[-1] == "/v1/jobs?limit=2"


async def raw(gateway: Any, request: bytes) -> bytes:
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
