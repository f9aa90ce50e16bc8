"""The contract of a job, through the door."""

import gzip
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


async def test_numbers_come_back_as_they_were_sent(service: Any) -> None:
    args = {"a": 1e300, "b": 1e20, "c": 2**64 - 1, "d": -(2**63), "e": 0.1, "f": 1.0}
    created = await service.post("/v1/jobs", {"kind": "k", "args": args})
    assert created.body["args"] == args
    assert (await service.get(created.headers["Location"])).body["args"] == args


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


async def test_bad_input_is_refused_by_name_and_leaves_nothing(service: Any) -> None:
    for raw, status, code, pointer in BAD_BODIES:
        refused = await service.call("POST", "/v1/jobs", raw=raw)
        assert (refused.status, refused.body["code"]) == (status, code), raw[:200]
        assert refused.headers["Content-Type"].startswith("application/problem+json")
        assert pointer is None or pointer in refused.pointers, raw[:200]
    assert await service.count() == 0


BAD_REQUESTS: list[tuple[str, str, dict[str, str], int]] = [
    ("POST", "/v1/jobs", {"Content-Type": "text/plain"}, 415),
    ("POST", "/v1/jobs", {"Content-Encoding": "gzip"}, 415),
    ("POST", "/v1/jobs", {"Content-Type": "application/json; charset=latin-1"}, 415),
    ("POST", "/v1/jobs", {"Idempotency-Key": "x" * 256}, 422),
    ("POST", "/v1/jobs", {"Request-Timeout-Ms": "soon"}, 422),
    ("POST", "/v1/jobs", {"Authorization": "Bearer nobody"}, 401),
    ("PUT", "/v1/jobs", {}, 405),
    ("GET", "/v1/jobs/42", {}, 404),
    ("GET", "/v1/jobs/6f1c7f0e4a585f529d0a9b5b2a3c8d11", {}, 404),
    ("POST", "/v1/jobs/42:cancel", {}, 404),
    ("POST", "/v1/jobs/42:what", {}, 404),
    ("GET", "/v1/jobs?what=1", {}, 422),
    ("GET", "/v1/jobs?state=gone", {}, 422),
    ("GET", "/v1/jobs?limit=201", {}, 422),
    ("GET", "/v1/jobs?limit=1&limit=2", {}, 422),
    ("GET", "/v1/jobs?cursor=%22", {}, 422),
    ("GET", "/v1/jobs?cursor=WyJ4IiwieSJd", {}, 422),
    ("GET", "/v1/jobs?since=yesterday", {}, 422),
    ("GET", "/v1/queues/No%20Name", {}, 404),
    ("GET", "/v1/batches/x", {}, 404),
    ("GET", "/nowhere", {}, 404),
]


async def test_every_refusal_is_a_problem_document(service: Any) -> None:
    for method, path, headers, status in BAD_REQUESTS:
        raw = b'{"kind":"k"}' if method != "GET" else None
        if "Content-Encoding" in headers:
            raw = gzip.compress(b'{"kind":"k"}')
        refused = await service.call(method, path, raw=raw, headers=headers)
        assert refused.status == status, (method, path, headers)
        assert refused.headers["Content-Type"].startswith("application/problem+json")
        assert refused.body["status"] == status
    assert await service.count() == 0


async def test_a_scope_opens_what_it_names(service: Any) -> None:
    reader, writer = frozenset({"jobs:read"}), frozenset({"jobs:write"})
    assert (await service.get("/v1/jobs", scopes=writer)).status == 403
    assert (await service.post("/v1/jobs", {"kind": "k"}, scopes=reader)).status == 403
    assert (await service.call("PUT", "/v1/queues/q", {}, scopes=writer)).status == 403
    command = {"jobs": []}
    assert (await service.post("/internal/v1/jobs:accept", command)).status == 403


async def test_a_key_of_a_shop_sees_and_touches_that_shop_alone(service: Any) -> None:
    own = await service.post("/v1/jobs", {"kind": "k"}, shop=SHOP)
    assert own.body["shop"] == SHOP
    refused = await service.post("/v1/jobs", {"kind": "k", "shop": OTHER}, shop=SHOP)
    assert (refused.status, refused.body["code"]) == (403, "other_shop")
    foreign = await service.post("/v1/jobs", {"kind": "k", "shop": OTHER})
    path = f"/v1/jobs/{foreign.body['id']}"
    assert (await service.get(path, shop=SHOP)).status == 404
    stopped = await service.post(f"{path}:cancel", shop=SHOP)
    assert (stopped.status, stopped.body["code"]) == (403, "other_shop")
    assert (await service.get(path)).body["state"] == "ready"
    listed = await service.get("/v1/jobs", shop=SHOP)
    assert [job["id"] for job in listed.body["items"]] == [own.body["id"]]
    assert (await service.get(f"/v1/jobs?shop={OTHER}", shop=SHOP)).status == 403


async def test_what_waits_is_cancelled_and_what_runs_is_told(service: Any) -> None:
    waiting = (await service.post("/v1/jobs", {"kind": "k"})).body["id"]
    for _ in range(2):
        cancelled = await service.post(f"/v1/jobs/{waiting}:cancel")
        assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")
    running = (await service.post("/v1/jobs", {"kind": "k"})).body["id"]
    await service.fetch("update queue_job set state = 'running' where id = $1", running)
    told = await service.post(f"/v1/jobs/{running}:cancel")
    assert (told.status, told.body["state"]) == (200, "running")
    rows = await service.fetch("select cancel_requested from queue_job where id = $1", running)
    assert rows[0][0]
    done = (await service.post("/v1/jobs", {"kind": "k"})).body["id"]
    await service.settle(done)
    late = await service.post(f"/v1/jobs/{done}:cancel")
    assert (late.status, late.body["code"]) == (409, "job_finished")
    assert (await service.post(f"/v1/jobs/{ids.new_id()}:cancel")).status == 404


async def test_a_batch_takes_each_job_by_itself(service: Any) -> None:
    taken = str(ids.new_id())
    await service.post("/v1/jobs", {"kind": "k", "id": taken, "args": {"n": 1}})
    jobs = [
        {"kind": "k"},
        {"kind": 1},
        {"kind": "k", "queue": "nowhere"},
        {"kind": "k", "id": taken},
        {"kind": "k", "id": taken, "args": {"n": 1}},
        {"kind": "k", "args": {"big": "x" * 300_000}},
    ]
    answer = await service.post("/v1/jobs:batch", {"jobs": jobs})
    assert answer.status == 200
    lines = answer.body["results"]
    assert [line["status"] for line in lines] == [
        "created", "rejected", "rejected", "rejected", "existing", "rejected",
    ]  # fmt: skip
    codes = [line["problem"]["code"] for line in lines if "problem" in line]
    assert codes == ["invalid", "unknown_queue", "id_taken", "invalid"]
    assert await service.count() == 2


async def test_an_atomic_batch_with_one_bad_job_stores_nothing(service: Any) -> None:
    for wrong, pointer in (
        ({"kind": ""}, "/jobs/1/kind"),
        ({"kind": "k", "queue": "nowhere"}, "/jobs/1/queue"),
    ):
        jobs = [{"kind": "k"}, wrong, {"kind": "k"}]
        refused = await service.post("/v1/jobs:batch", {"jobs": jobs, "atomic": True})
        assert refused.status == 422
        assert pointer in refused.pointers
    assert await service.count() == 0


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_batch_under_a_key_is_replayed_and_never_mixed(service: Any, atomic: bool) -> None:
    said: dict[str, Any] = {"jobs": [{"kind": "k", "args": {"n": n}} for n in range(3)]}
    said["atomic"] = atomic
    first = await service.post("/v1/jobs:batch", said, key="b")
    again = await service.post("/v1/jobs:batch", said, key="b")
    assert [line["status"] for line in first.body["results"]] == ["created"] * 3
    assert [line["status"] for line in again.body["results"]] == ["existing"] * 3
    assert [a["id"] for a in first.body["results"]] == [b["id"] for b in again.body["results"]]
    longer = {**said, "jobs": [*said["jobs"], {"kind": "k"}]}
    other = await service.post("/v1/jobs:batch", longer, key="b")
    assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")
    assert await service.count() == 3


async def test_a_batch_under_a_key_keeps_the_good_ones(service: Any) -> None:
    jobs = [{"kind": "k", "queue": "nowhere"}, {"kind": "k"}, {"kind": 1}, {"kind": "k"}]
    for expected in ("created", "existing"):
        answer = await service.post("/v1/jobs:batch", {"jobs": jobs}, key="b")
        statuses = [line["status"] for line in answer.body["results"]]
        assert statuses == ["rejected", expected, "rejected", expected]
    assert await service.count() == 2


async def walk(service: Any, path: str, **how: Any) -> list[str]:
    """The ids on all pages, following `Link` as a client would."""
    found: list[str] = []
    for _ in range(200):
        page = await service.get(path, **how)
        assert page.status == 200, page.body
        found += [item["id"] for item in page.body["items"]]
        if page.body["next_cursor"] is None:
            assert "Link" not in page.headers
            return found
        path = page.headers["Link"].partition("<")[2].partition(">")[0]
    raise AssertionError("the pages have no end")


async def test_pages_put_together_are_the_whole_newest_first(service: Any) -> None:
    jobs = [
        {"kind": f"k{n % 3}", "tags": [f"t{n % 2}"], "queue": ["sms", "default"][n % 2],
         "delay_s": 60.0 * (n % 5 == 0)}
        for n in range(60)
    ]  # fmt: skip
    made = (await service.post("/v1/jobs:batch", {"jobs": jobs})).body["results"]
    await service.settle(*[line["id"] for line in made[10:30:2]])
    await service.settle(*[line["id"] for line in made[11:30:4]], state="failed")
    documents = [(await service.get(f"/v1/jobs/{line['id']}")).body for line in made]
    documents.sort(key=lambda job: (job["created_at"], uuid.UUID(job["id"])), reverse=True)
    for query, matches in {
        "": lambda _job: True,
        "&state=completed": lambda job: job["state"] == "completed",
        "&state=failed": lambda job: job["state"] == "failed",
        "&state=scheduled&queue=sms": lambda job: (
            job["state"] == "scheduled" and job["queue"] == "sms"
        ),
        "&kind=k1": lambda job: job["kind"] == "k1",
        "&tag=t1": lambda job: "t1" in job["tags"],
    }.items():
        expected = [job["id"] for job in documents if matches(job)]
        for limit in (1, 7, 60):
            assert await walk(service, f"/v1/jobs?limit={limit}{query}") == expected
    assert await walk(service, "/v1/jobs?until=2020-01-01T00:00:00Z") == []
    since = documents[5]["created_at"]
    assert documents[5]["id"] in await walk(service, f"/v1/jobs?since={since}")


async def test_the_gateway_hands_jobs_over_under_ids_that_are_known(service: Any) -> None:
    accepted = [
        {"id": str(ids.new_id()), "accepted_at": "2026-11-24T10:00:00Z", "fingerprint": "f",
         "job": {"kind": "k", "queue": queue}}
        for queue in ("default", "nowhere")
    ]  # fmt: skip
    how: dict[str, Any] = {"scopes": frozenset({"service"})}
    both = await service.post("/internal/v1/jobs:accept", {"jobs": accepted}, **how)
    assert [line["status"] for line in both.body["results"]] == ["created", "rejected"]
    job = both.body["results"][0]["job"]
    assert job["created_at"] == "2026-11-24T10:00:00Z"
    problem = both.body["results"][1]["problem"]
    assert (problem["code"], problem["errors"][0]["pointer"]) == ("unknown_queue", "/queue")
    again = await service.post("/internal/v1/jobs:accept", {"jobs": accepted[:1]}, **how)
    assert [line["status"] for line in again.body["results"]] == ["existing"]
    fresh = [{**each, "id": str(ids.new_id())} for each in accepted]
    none = await service.post("/internal/v1/jobs:accept", {"jobs": fresh, "atomic": True}, **how)
    assert [line["status"] for line in none.body["results"]] == ["rejected"] * 2
    assert ["problem" in line for line in none.body["results"]] == [False, True]
    assert await service.count() == 1


async def test_a_promise_that_cannot_be_kept_is_a_rejected_job(service: Any) -> None:
    how: dict[str, Any] = {"scopes": frozenset({"service"})}
    first = (await service.post("/v1/jobs", {"kind": "k"}, key="x")).body
    now = first["created_at"]

    def promised(**more: Any) -> dict[str, Any]:
        return {"id": str(ids.new_id()), "accepted_at": now, "fingerprint": "f",
                "job": {"kind": "k", "args": {"a": 1}}, **more}  # fmt: skip

    unknown = promised(job={"kind": "k", "queue": "nowhere", "tags": ["t"]})
    reused = promised(key="x")
    old = promised(accepted_at="2020-01-01T00:00:00Z")
    taken = promised(id=first["id"])
    command = {"promised": True, "jobs": [unknown, reused, old, taken, promised()]}
    for last in ("created", "existing"):
        answer = await service.post("/internal/v1/jobs:accept", command, **how)
        statuses = [line["status"] for line in answer.body["results"]]
        assert statuses == ["rejected"] * 4 + [last]
    for job, code in ((unknown, "unknown_queue"), (reused, "idempotency_key_reused"),
                      (old, "invalid")):  # fmt: skip
        read = await service.get(f"/v1/jobs/{job['id']}")
        wire.Job.model_validate_json(read.raw)
        assert read.body["state"] == "rejected"
        assert read.body["errors"][-1]["type"] == code
    read = await service.get(f"/v1/jobs/{reused['id']}")
    assert first["id"] in read.body["errors"][-1]["message"]
    assert (await service.get(f"/v1/jobs/{first['id']}")).body["state"] == "ready"
    assert await service.count() == 5
