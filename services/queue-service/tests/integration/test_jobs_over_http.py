"""The contract of a job, through the door."""

import uuid
from typing import Any

import orjson
import pytest

from chassis.kernel import ids
from contracts import jobs as wire

SHOP = "greek-olives.myshopify.com"
OTHER = "other.myshopify.com"


async def test_a_job_is_there_as_soon_as_it_is_accepted(service: Any) -> None:
    said = {
        "kind": "sms.send",
        "queue": "sms",
        "shop": "Greek-Olives.myshopify.com ",
        "args": {"to": "+306900000183", "body": "Γεια 🫒", "n": [1, 2.5, None]},
        "priority": 0,
        "tags": ["a,b", '"quoted"', "{x}", "back\\slash"],
        "max_attempts": 3,
    }
    created = await service.post("/v1/jobs", said)
    assert created.status == 201
    assert created.headers["Mainstay-Backend"] == "postgres"
    assert created.headers["Mainstay-Road"] == "direct"
    assert "Degraded" not in created.headers
    read = await service.get(created.headers["Location"])
    assert read.status == 200
    assert read.body == created.body
    job = wire.Job.model_validate_json(read.raw)
    assert (job.state, job.shop, job.max_attempts) == ("ready", SHOP, 3)
    assert job.args == said["args"]
    assert job.tags == said["tags"]


async def test_what_is_not_said_comes_from_the_queue(service: Any) -> None:
    later = await service.post("/v1/jobs", {"kind": "k", "delay_s": 60})
    assert later.body["state"] == "scheduled"
    assert later.body["max_attempts"] == 5
    assert later.body["queue"] == "default"
    assert later.body["run_at"] > later.body["created_at"]
    offset = await service.post("/v1/jobs", {"kind": "k", "run_at": "2040-01-01T02:00:00+02:00"})
    assert offset.body["run_at"] == "2040-01-01T00:00:00Z"


async def test_the_same_id_is_the_same_job_and_another_body_is_refused(service: Any) -> None:
    said = {"kind": "k", "id": str(ids.new_id()), "args": {"n": 1}}
    first = await service.post("/v1/jobs", said)
    again = await service.post("/v1/jobs", said)
    assert (first.status, again.status) == (201, 200)
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.body == first.body
    other = await service.post("/v1/jobs", {**said, "args": {"n": 2}})
    assert (other.status, other.body["code"]) == (409, "id_taken")
    foreign = await service.post("/v1/jobs", said, shop=OTHER)
    assert (foreign.status, foreign.body["code"]) == (409, "id_taken")
    assert "args" not in foreign.body
    await service.settle(said["id"])
    settled = await service.post("/v1/jobs", said)
    assert (settled.status, settled.body["state"]) == (200, "completed")
    assert await service.count() == 1


async def test_a_key_decides_what_a_repeat_is_within_its_shop(service: Any) -> None:
    said = {"kind": "k", "args": {"n": 1}, "shop": SHOP}
    first = await service.post("/v1/jobs", said, key="κλειδί")
    again = await service.post("/v1/jobs", said, key="κλειδί", shop=SHOP)
    assert (first.status, again.status) == (201, 200)
    assert again.body["id"] == first.body["id"]
    reused = await service.post("/v1/jobs", {**said, "priority": 1}, key="κλειδί")
    assert (reused.status, reused.body["code"]) == (422, "idempotency_key_reused")
    elsewhere = await service.post("/v1/jobs", {**said, "shop": OTHER}, key="κλειδί")
    assert elsewhere.status == 201
    await service.settle(first.body["id"], state="failed")
    after = await service.post("/v1/jobs", said, key="κλειδί")
    assert (after.status, after.body["state"]) == (200, "failed")


DEEP = b'{"kind":"k","args":{"a":' + b"[" * 70 + b"]" * 70 + b"}}"
BAD_BODIES = [
    (b"{", 400, "malformed", None),
    (b"", 400, "malformed", None),
    (b'{"kind":"k","args":{"a":NaN}}', 400, "malformed", None),
    (b'{"kind":"k","kind":"k"}', 400, "malformed", None),
    (b'{"kind":"\xff"}', 400, "malformed", None),
    (b'{"kind":"k","args":{"a":"\\u0000"}}', 422, "invalid", "/args/a"),
    (b'{"kind":"k","args":{"a":"\\ud800"}}', 422, "invalid", "/args/a"),
    (b'{"kind":"k","args":{"a":99999999999999999999}}', 422, "invalid", "/args/a"),
    (DEEP, 422, "invalid", None),
    (b'{"kind":"k","what":1}', 422, "invalid", "/what"),
    (b'{"kind":1}', 422, "invalid", "/kind"),
    (b"{}", 422, "invalid", "/kind"),
    (b"[]", 422, "invalid", ""),
    (b'{"kind":"k","priority":"5"}', 422, "invalid", "/priority"),
    (b'{"kind":"k","priority":10}', 422, "invalid", "/priority"),
    (b'{"kind":"k","args":[]}', 422, "invalid", "/args"),
    (b'{"kind":"k","run_at":"2026-01-01T00:00:00"}', 422, "invalid", "/run_at"),
    (b'{"kind":"k","run_at":"0001-01-01T00:00:00+14:00"}', 422, "invalid", "/run_at"),
    (b'{"kind":"k","delay_s":-1}', 422, "invalid", "/delay_s"),
    (b'{"kind":"k","delay_s":1,"run_at":"2026-01-01T00:00:00Z"}', 422, "invalid", ""),
    (b'{"kind":"k","max_attempts":101}', 422, "invalid", "/max_attempts"),
    (b'{"kind":"k","queue":"nowhere"}', 422, "unknown_queue", "/queue"),
    (b'{"kind":"k","queue":"No/Where"}', 422, "invalid", "/queue"),
    (b'{"kind":"k","id":"x"}', 422, "invalid", "/id"),
    (b'{"kind":"k","id":"6f1c7f0e-4a58-5f52-9d0a-9b5b2a3c8d11"}', 422, "invalid", "/id"),
    (orjson.dumps({"kind": "k" * 129}), 422, "invalid", "/kind"),
    (orjson.dumps({"kind": "k", "tags": ["t"] * 21}), 422, "invalid", "/tags"),
    (orjson.dumps({"kind": "k", "tags": ["t" * 65]}), 422, "invalid", "/tags/0"),
    (orjson.dumps({"kind": "k", "args": {"a": "x" * 300_000}}), 422, "invalid", "/args"),
    (orjson.dumps({"kind": "k", "args": {"a": "x" * 1_100_000}}), 413, "too_large", None),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "status", "code", "pointer"), BAD_BODIES)
async def test_bad_input_is_refused_by_name_and_leaves_nothing(
    service: Any, raw: bytes, status: int, code: str, pointer: str | None
) -> None:
    refused = await service.call("POST", "/v1/jobs", raw=raw)
    assert (refused.status, refused.body["code"]) == (status, code)
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    if pointer is not None:
        assert pointer in refused.pointers
    assert await service.count() == 0
