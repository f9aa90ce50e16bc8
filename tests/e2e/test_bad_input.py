"""Bad input gets a 4xx problem document that names the fault, and nothing is stored."""

import io
import json
from typing import Any

import aiohttp
import pytest

from mainstay.client import new_id
from testkit.stack import StackProcess

JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}
DEEP = b'{"kind":"k","args":' + b'{"a":' * 70 + b"1" + b"}" * 70 + b"}"
V5 = b'{"kind":"k","id":"6f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d11"}'

BODIES = [
    ("no JSON", b"{", 400, "malformed", None),
    ("no document", b"[]", 422, "invalid", ""),
    ("NaN", b'{"kind":"k","args":{"x":NaN}}', 400, "malformed", None),
    ("a member twice", b'{"kind":"k","kind":"l"}', 400, "malformed", None),
    ("no UTF-8", b'{"kind":"\xff"}', 400, "malformed", None),
    ("no kind", b"{}", 422, "invalid", "/kind"),
    ("kind of a wrong type", b'{"kind":1}', 422, "invalid", "/kind"),
    ("an unknown member", b'{"kind":"k","prio":1}', 422, "invalid", "/prio"),
    ("a priority out of range", b'{"kind":"k","priority":10}', 422, "invalid", "/priority"),
    ("two times", b'{"kind":"k","delay_s":1,"run_at":"2030-01-01T00:00:00Z"}', 422, "invalid", ""),
    ("no zone", b'{"kind":"k","run_at":"2030-01-01T00:00:00"}', 422, "invalid", "/run_at"),
    ("an unknown queue", b'{"kind":"k","queue":"nowhere"}', 422, "unknown_queue", "/queue"),
    ("U+0000", rb'{"kind":"k","args":{"a":"\u0000"}}', 422, "invalid", "/args/a"),
    ("half a pair", rb'{"kind":"k","args":{"a":"\ud800"}}', 422, "invalid", "/args/a"),
    ("too big", b'{"kind":"k","args":{"a":9999999999999999999999}}', 422, "invalid", "/args/a"),
    ("too deep", DEEP, 422, "invalid", None),
    ("a v5 id", V5, 422, "invalid", "/id"),
    ("2 MiB", b'{"kind":"' + b"k" * (2 << 20) + b'"}', 413, "too_large", None),
]  # fmt: skip


async def problem(answer: aiohttp.ClientResponse, status: int, code: str) -> dict[str, Any]:
    assert answer.status == status, await answer.text()
    assert answer.content_type == "application/problem+json"
    told: dict[str, Any] = json.loads(await answer.read())
    assert {"type", "title", "status", "detail", "code", "trace_id", "retryable", "errors"} <= set(
        told
    )
    assert (told["status"], told["code"]) == (status, code)
    assert told["detail"]
    return told


async def count(session: aiohttp.ClientSession) -> int:
    async with session.get("/v1/jobs", params={"limit": "200"}) as answer:
        return len((await answer.json())["items"])


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [case[1:] for case in BODIES],
    ids=[case[0] for case in BODIES],
)
async def test_a_bad_job_is_named_and_not_stored(
    stack: StackProcess, body: bytes, status: int, code: str, pointer: str | None
) -> None:
    async with stack.session() as session:
        before = await count(session)
        async with session.post("/v1/jobs", data=io.BytesIO(body), headers=JSON) as answer:
            told = await problem(answer, status, code)
        if pointer is not None:
            assert pointer in [flaw["pointer"] for flaw in told["errors"]], told
        assert await count(session) == before


async def test_another_content_type_or_encoding_is_415(stack: StackProcess) -> None:
    async with stack.session() as session:
        for headers in (
            {"Content-Type": "text/plain"},
            {**JSON, "Content-Encoding": "gzip"},
            {"Content-Type": "application/json; charset=latin-1"},
        ):
            async with session.post("/v1/jobs", data=b'{"kind":"k"}', headers=headers) as answer:
                await problem(answer, 415, "unsupported_media_type")


async def test_paths_and_methods_are_told_apart(stack: StackProcess) -> None:
    async with stack.session() as session:
        for method, path, status, code in (
            ("GET", "/v1/nothing", 404, "not_found"),
            ("GET", "/v1/jobs/no-id", 404, "not_found"),
            ("GET", f"/v1/jobs/{new_id()}", 404, "not_found"),
            ("DELETE", "/v1/jobs", 405, "method_not_allowed"),
            ("GET", "/v1/jobs?limit=0", 422, "invalid"),
            ("GET", "/v1/jobs?wat=1", 422, "invalid"),
            ("GET", "/v1/jobs?cursor=zzz", 422, "invalid"),
            ("GET", "/internal/v1/jobs:accept", 404, "not_found"),
        ):
            async with session.request(method, path) as answer:
                await problem(answer, status, code)


async def test_nobody_comes_in_without_a_key_and_a_key_does_only_what_it_may(
    stack: StackProcess,
) -> None:
    async with aiohttp.ClientSession(base_url=stack.gateway_url) as stranger:
        async with stranger.get("/v1/jobs") as answer:
            await problem(answer, 401, "unauthenticated")
        headers = {"Authorization": "Bearer msk_nonsense"}
        async with stranger.get("/v1/jobs", headers=headers) as answer:
            await problem(answer, 401, "unauthenticated")
    async with stack.session() as session:
        made = {"name": "reader", "scopes": ["jobs:read"], "shop": "One.myshopify.com"}
        async with session.post("/v1/keys", json=made) as answer:
            assert answer.status == 201
            key = (await answer.json())["key"]
        async with session.post("/v1/jobs", json={"kind": "k", "shop": "two.example"}) as answer:
            other = (await answer.json())["id"]
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(base_url=stack.gateway_url, headers=headers) as reader:
        async with reader.post("/v1/jobs", json={"kind": "k"}) as answer:
            await problem(answer, 403, "missing_scope")
        async with reader.get(f"/v1/jobs/{other}") as answer:
            await problem(answer, 404, "not_found")
        async with reader.get("/v1/jobs", headers={"Mainstay-Shop": "two.example"}) as answer:
            await problem(answer, 403, "other_shop")
        async with reader.get("/v1/system") as answer:
            await problem(answer, 403, "missing_scope")


async def test_one_bad_job_refuses_an_atomic_batch_and_only_itself_in_another(
    stack: StackProcess,
) -> None:
    good, bad = {"kind": "campaign.report"}, {"kind": "campaign.report", "queue": "nowhere"}
    async with stack.session() as session:
        before = await count(session)
        body = {"jobs": [good, bad], "atomic": True}
        async with session.post("/v1/jobs:batch", json=body) as answer:
            told = await problem(answer, 422, "unknown_queue")
        assert [flaw["pointer"] for flaw in told["errors"]] == ["/jobs/1/queue"]
        assert await count(session) == before
        async with session.post("/v1/jobs:batch", json={**body, "atomic": False}) as answer:
            assert answer.status == 200
            results = (await answer.json())["results"]
        assert [one["status"] for one in results] == ["created", "rejected"]
        assert results[1]["problem"]["code"] == "unknown_queue"


async def test_broken_csv_is_reported_by_line_and_strict_stores_nothing(
    stack: StackProcess,
) -> None:
    csv = b'to,name\n+306912345678,"A\nB"\n12,C\n+306912345679\n"+306912345670,D\n'
    async with stack.session() as session:
        batch = {"name": "bad", "kind": "sms.send", "queue": "sms", "hold": True,
                 "defaults": {"args": {"body": "x"}}}  # fmt: skip
        async with session.post("/v1/batches", json=batch) as answer:
            assert answer.status == 201
            path = f"/v1/batches/{(await answer.json())['id']}"
        async with session.post(f"{path}/items?strict=true", data=csv, headers=CSV) as answer:
            await problem(answer, 422, "invalid")
        async with session.get(path) as answer:
            assert (await answer.json())["total"] == 0
        async with session.post(f"{path}/items", data=csv, headers=CSV) as answer:
            assert answer.status == 200
            told = await answer.json()
        assert (told["accepted"], told["rows"]) == (1, 4)
        assert [row["line"] for row in told["rejected"]] == [4, 5, 6]
        assert all(row["detail"] for row in told["rejected"])
        async with session.post(f"{path}:cancel") as answer:
            assert answer.status == 200
