"""Batches through the door: filled, held, stopped, ended once."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from chassis.kernel import ids
from contracts import events
from contracts import jobs as wire
from localstack import audience
from queue_service.loops.batches import BatchFinisher, BatchFolder
from queue_service.store.batch_chores import PostgresBatchChores
from queue_service.store.enqueue import EnqueueWriter
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
OTHER = "other.myshopify.com"
SAMPLE = Path(__file__).parents[4] / "examples" / "spring-sale.csv"
CSV = {"Content-Type": "text/csv; charset=utf-8"}
NDJSON = {"Content-Type": "application/x-ndjson"}
NOBODY_KNOWS: dict[str, Any] = {}


async def open_batch(service: Any, **said: Any) -> str:
    created = await service.post("/v1/batches", {"name": "b", "kind": "k", **said})
    assert created.status == 201, created.body
    wire.Batch.model_validate_json(created.raw)
    return f"/v1/batches/{created.body['id']}"


async def add(service: Any, path: str, items: list[Any], query: str = "") -> Any:
    return await service.post(f"{path}/items{query}", items)


async def is_state(service: Any, path: str, state: str) -> Any:
    batch = (await service.get(path)).body
    assert batch["state"] == state, batch
    return batch


async def test_a_batch_is_a_repeat_by_its_id_and_by_its_key(service: Any) -> None:
    said = {"name": "b", "kind": "k", "id": str(ids.new_id())}
    answers = [await service.post("/v1/batches", said) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 200]
    other = await service.post("/v1/batches", {**said, "name": "c"})
    assert (other.status, other.body["code"]) == (409, "id_taken")
    keyed = [await service.post("/v1/batches", {"name": "b", "kind": "k"}, key="x")
             for _ in range(2)]  # fmt: skip
    assert keyed[0].body["id"] == keyed[1].body["id"]
    assert keyed[1].headers["Idempotent-Replay"] == "true"
    reused = await service.post("/v1/batches", {"name": "c", "kind": "k"}, key="x")
    assert (reused.status, reused.body["code"]) == (422, "idempotency_key_reused")


async def test_what_is_wrong_with_a_batch_is_named(service: Any) -> None:
    for said, pointer in (
        ({"queue": "nowhere"}, "/queue"),
        ({"on_complete": {"kind": "k", "queue": "nowhere"}}, "/on_complete/queue"),
        ({"defaults": {"kind": "k"}}, "/defaults/kind"),
        ({"name": ""}, "/name"),
        ({"defaults": {"priority": 11}}, "/defaults/priority"),
    ):
        refused = await service.post("/v1/batches", {"name": "b", "kind": "k"} | said)
        assert refused.status == 422, said
        assert pointer in refused.pointers
    assert (await service.get("/v1/batches")).body["items"] == []


async def test_items_inherit_the_defaults_and_run_at_once(service: Any) -> None:
    defaults = {"args": {"a": 1, "b": 1}, "priority": 2, "max_attempts": 9, "tags": ["t"]}
    path = await open_batch(service, shop=SHOP, queue="sms", defaults=defaults)
    items = [{"args": {"b": 2}}, {"args": {}, "shop": OTHER, "priority": 7, "tags": []},
             {"args": {}, "run_at": "2040-01-01T00:00:00Z"}]  # fmt: skip
    answer = await add(service, path, items)
    assert answer.body == {"accepted": 3, "duplicates": 0, "rejected": [], "rows": 3}
    batch_id = path.rpartition("/")[2]
    listed = (await service.get(f"/v1/jobs?batch_id={batch_id}")).body["items"]
    by_state = {(job["state"], job["shop"]): job for job in listed}
    first, second = by_state["ready", SHOP], by_state["ready", OTHER]
    assert first["args"] == {"a": 1, "b": 2}
    assert (first["priority"], first["max_attempts"], first["tags"]) == (2, 9, ["t"])
    assert (second["priority"], second["tags"], second["queue"]) == (7, [], "sms")
    assert by_state["scheduled", SHOP]["batch_id"] == batch_id
    batch = (await service.get(path)).body
    assert (batch["total"], batch["ready"], batch["scheduled"]) == (3, 2, 1)


async def test_the_sample_goes_in_with_its_wrong_rows_named_by_line(service: Any) -> None:
    path = await open_batch(
        service, kind="sms.send", queue="sms", shop=SHOP, defaults={"args": {"body": "Hi"}}
    )
    raw = SAMPLE.read_bytes()
    first = await service.post(f"{path}/items?source=sample", raw=raw, headers=CSV)
    assert first.status == 200, first.body
    told = first.body
    assert told["accepted"] >= 500
    assert told["duplicates"] == 0
    assert len(told["rejected"]) >= 5
    assert told["accepted"] + len(told["rejected"]) == told["rows"]
    assert told["accepted"] == len(audience.read(SAMPLE).recipients)
    lines = raw.split(b"\n")
    numbers = [row for row in told["rejected"] if row["detail"].startswith("/to")]
    assert numbers
    for row in numbers:
        number = lines[row["line"] - 1].partition(b",")[0].decode()
        assert not audience.is_reachable(number), row
    details = " ".join(row["detail"] for row in told["rejected"])
    assert "columns" in details
    assert "not UTF-8" in details
    again = (await service.post(f"{path}/items?source=sample", raw=raw, headers=CSV)).body
    assert again["accepted"] == 0
    assert again["duplicates"] == told["accepted"]
    assert again["rejected"] == told["rejected"]
    batch = (await service.get(path)).body
    assert batch["total"] == batch["ready"] == told["accepted"]
    assert batch["rejected_rows"] == len(told["rejected"])


async def test_a_cut_upload_goes_on_without_loss_or_double(start: Any) -> None:
    service = await start(handlers=NOBODY_KNOWS)
    path = await open_batch(service)
    lines = [orjson.dumps({"args": {"n": n}}) + b"\n" for n in range(1300)]

    async def cut() -> Any:
        yield b"".join(lines[:1100])
        # Not before a part of it is there: else this would show nothing.
        await eventually(has_some)
        raise ConnectionResetError

    async def has_some() -> bool:
        return (await service.get(path)).body["total"] > 0

    with pytest.raises((aiohttp.ClientError, ConnectionResetError)):
        await service.post(f"{path}/items", raw=cut(), headers=NDJSON)
    kept = (await service.get(path)).body["total"]
    assert 0 < kept < 1300
    again = await service.post(f"{path}/items", raw=b"".join(lines), headers=NDJSON)
    assert again.body["accepted"] + again.body["duplicates"] == 1300
    assert again.body["duplicates"] >= kept
    numbers = await service.fetch("select (args ->> 'n')::int as n from queue_job order by n")
    assert [row["n"] for row in numbers] == list(range(1300))
    assert (await service.get(path)).body["total"] == 1300


async def test_a_row_sent_with_other_content_is_a_conflict(service: Any) -> None:
    path = await open_batch(service)
    await add(service, path, [{"args": {"n": 1}}, {"args": {"n": 2}}])
    again = await add(service, path, [{"args": {"n": 1}}, {"args": {"n": 3}}])
    assert again.body["rejected"] == [{"line": 2, "detail": "row_conflict"}]
    assert again.body["duplicates"] == 1
    skipped = await add(service, path, [{"args": {"n": 9}}, {"args": {"n": 2}}], "?offset=1")
    assert (skipped.body["duplicates"], skipped.body["rejected"]) == (1, [])
    other = await add(service, path, [{"args": {"n": 9}}], "?source=other")
    assert other.body["accepted"] == 1
    assert (await service.get(path)).body["rejected_rows"] == 0


async def test_a_row_that_is_mended_is_taken(service: Any) -> None:
    path = await open_batch(service)
    wrong = await add(service, path, [{"args": {}}, {"what": 1}])
    assert [row["line"] for row in wrong.body["rejected"]] == [2]
    assert (await service.get(path)).body["rejected_rows"] == 1
    mended = await add(service, path, [{"args": {}}, {"args": {}}])
    assert (mended.body["accepted"], mended.body["duplicates"]) == (1, 1)
    batch = (await service.get(path)).body
    assert (batch["total"], batch["rejected_rows"]) == (2, 0)


async def test_strict_refuses_all_for_one_bad_row(service: Any) -> None:
    path = await open_batch(service)
    raw = b"a;b\n1;2\n1\n"
    query = "?strict=true&delimiter=%3B"
    refused = await service.post(f"{path}/items{query}", raw=raw, headers=CSV)
    assert refused.status == 422
    assert refused.body["errors"][0]["detail"].startswith("line 3:")
    assert (await service.get(path)).body["total"] == 0
    good = await service.post(f"{path}/items{query}", raw=b"a;b\n1;2\n", headers=CSV)
    assert good.body["accepted"] == 1


BAD_UPLOADS: list[tuple[bytes, dict[str, str], str, int]] = [
    (b"", CSV, "", 422),
    (b"a,a\n1,2\n", CSV, "", 422),
    (b"\xff,b\n1,2\n", CSV, "", 400),
    (b"{}", {}, "", 400),
    (b"[1,2", {}, "", 400),
    (b"a\n1\n", {"Content-Type": "text/plain"}, "", 415),
    (b"a\n1\n", CSV, "?delimiter=%22", 422),
    (b"a\n1\n", CSV, "?offset=-1", 422),
]


async def test_an_upload_that_is_none_leaves_nothing(service: Any) -> None:
    path = await open_batch(service)
    for raw, headers, query, status in BAD_UPLOADS:
        refused = await service.post(f"{path}/items{query}", raw=raw, headers=headers)
        assert refused.status == status, raw
    assert (await service.get(path)).body["total"] == 0


async def test_a_closed_batch_takes_no_more_and_ends_once(service: Any, start: Any) -> None:
    follow = {"kind": "report", "args": {"a": 1}, "tags": ["after"]}
    path = await open_batch(service, name="spring", shop=SHOP, on_complete=follow)
    await add(service, path, [{"args": {"n": n}} for n in range(4)] + [{"what": 1}])
    for _ in range(2):
        closed = await service.post(f"{path}:close")
        assert (closed.status, closed.body["state"]) == (200, "closed")
    late = await add(service, path, [{"args": {}}])
    assert (late.status, late.body["code"]) == (409, "batch_closed")
    batch_id = path.rpartition("/")[2]
    jobs = [job["id"] for job in
            (await service.get(f"/v1/jobs?batch_id={batch_id}")).body["items"]]  # fmt: skip
    await service.settle(*jobs[:2])
    await service.settle(jobs[2], state="failed")
    open_still = (await service.get(path)).body
    assert (open_still["completed"], open_still["failed"], open_still["ready"]) == (2, 1, 1)
    await start()
    await service.post(f"/v1/jobs/{jobs[3]}:cancel")
    batch = await eventually(lambda: is_state(service, path, "finished"))
    assert [batch[name] for name in ("total", "completed", "failed", "cancelled", "ready")] == [
        4, 2, 1, 1, 0,
    ]  # fmt: skip
    assert batch["eta_s"] == 0
    after = (await service.get("/v1/jobs?tag=after")).body["items"]
    assert [job["id"] for job in after] == [batch["on_complete_id"]]
    assert (after[0]["shop"], after[0]["args"]["a"]) == (SHOP, 1)
    counts = after[0]["args"]["batch"]
    assert (counts["total"], counts["completed"], counts["rejected_rows"]) == (4, 2, 1)
    rows = await service.fetch("select envelope from outbox where type like 'batch.completed%'")
    envelopes = [events.Envelope.model_validate(row["envelope"]) for row in rows]
    assert [(one.type, one.shop) for one in envelopes] == [(events.BATCH_COMPLETED, SHOP)]
    assert events.BatchCompleted.model_validate(envelopes[0].data).failed == 1
    await service.post(f"{path}:close")
    assert (await service.post(f"{path}:pause")).status == 409


async def test_finishers_at_the_same_time_finish_once(database: Any, service: Any) -> None:
    paths = [await open_batch(service, on_complete={"kind": "k"}) for _ in range(8)]
    chores = PostgresBatchChores(database=database, writer=EnqueueWriter(database))
    for path in paths:
        await service.fetch("update batch set closed_at = now() where id = $1",
                            path.rpartition("/")[2])  # fmt: skip
    await asyncio.gather(*(BatchFinisher(chores).run_once() for _ in range(5)))
    for path in paths:
        await eventually(lambda path=path: is_state(service, path, "finished"))
    assert await service.count() == 8
    assert len(await service.fetch("select from outbox where type like 'batch.completed%'")) == 8


async def test_a_batch_ends_though_the_queue_of_its_last_job_has_gone(service: Any) -> None:
    await service.call("PUT", "/v1/queues/mine", {})
    path = await open_batch(service, on_complete={"kind": "k", "queue": "mine"})
    assert (await service.call("DELETE", "/v1/queues/mine")).status == 204
    await service.post(f"{path}:close")
    batch = await eventually(lambda: is_state(service, path, "finished"))
    job = (await service.get(f"/v1/jobs/{batch['on_complete_id']}")).body
    assert (job["state"], job["errors"][-1]["type"]) == ("rejected", "unknown_queue")


async def test_folders_at_the_same_time_count_each_end_once(database: Any, dsn: str) -> None:
    chores = PostgresBatchChores(database=database, writer=EnqueueWriter(database))
    batch_id = ids.new_id()
    await database.execute(
        """insert into batch (id, name, queue, kind, defaults, fingerprint, paused, total)
        values ($1, 'b', 'default', 'k', '{}', 'f', false, 500)""",
        batch_id,
    )
    await database.execute(
        """insert into batch_delta (batch_id, completed, failed, cancelled)
        select $1, 1, 0, 0 from generate_series(1, 500)""",
        batch_id,
    )
    await asyncio.gather(*(BatchFolder(chores).run_once() for _ in range(4)))
    row = await database.fetchrow("select completed, rate from batch")
    assert row["completed"] == 500
    assert row["rate"] > 0
    for _ in range(40):
        await BatchFolder(chores).run_once()
    assert (await database.fetchval("select rate from batch")) < row["rate"] / 100


async def test_a_held_batch_starts_when_it_is_resumed_in_the_order_it_came(
    service: Any,
) -> None:
    path = await open_batch(service, hold=True, queue="sms")
    items = [{"args": {"n": n}} for n in range(30)]
    await add(service, path, [*items, {"args": {}, "run_at": "2040-01-01T00:00:00Z"}])
    batch = await is_state(service, path, "paused")
    assert batch["held"] == 31
    before = (await service.post("/v1/jobs", {"kind": "k", "queue": "sms"})).body["id"]
    await service.post(f"{path}:resume")

    async def is_free() -> Any:
        found = (await service.get(path)).body
        return (found["ready"], found["scheduled"], found["held"]) == (30, 1, 0)

    await eventually(is_free)
    rows = await service.fetch(
        "select id, args ->> 'n' as n from queue_job where state = 'ready' order by seq"
    )
    assert str(rows[0]["id"]) == before
    assert [row["n"] for row in rows[1:]] == [str(n) for n in range(30)]
    lanes = await service.fetch("select active from lane where queue = 'sms'")
    assert [row["active"] for row in lanes] == [True]


async def test_a_paused_batch_holds_what_comes_next(service: Any) -> None:
    path = await open_batch(service)
    assert (await service.post(f"{path}:pause")).body["state"] == "paused"
    await add(service, path, [{"args": {}}])
    assert (await service.get(path)).body["held"] == 1


async def test_a_cancelled_batch_stops_what_waits_and_tells_what_runs(service: Any) -> None:
    path = await open_batch(service)
    await add(service, path, [{"args": {"n": n}} for n in range(5)])
    await service.fetch(
        """update queue_job set state = 'running', lease_no = 1
        where id = (select min(id::text)::uuid from queue_job)"""
    )
    for _ in range(2):
        cancelled = await service.post(f"{path}:cancel")
        assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")

    async def is_stopped() -> Any:
        batch = (await service.get(path)).body
        return (batch["cancelled"], batch["running"]) == (4, 1)

    await eventually(is_stopped)
    rows = await service.fetch("select id, cancel_requested from queue_job")
    assert [row["cancel_requested"] for row in rows] == [True]
    assert (await add(service, path, [{"args": {}}])).body["code"] == "batch_closed"
    await service.settle(str(rows[0]["id"]), state="cancelled")

    async def is_over() -> Any:
        return (await service.get(path)).body["finished_at"]

    await eventually(is_over)
    assert len(await service.fetch("select from outbox where type like 'batch.completed%'")) == 1
    assert (await service.post(f"{path}:resume")).status == 409


async def test_batches_of_other_shops_do_not_exist_for_a_key(service: Any) -> None:
    foreign = await open_batch(service, shop=OTHER)
    own = (await service.post("/v1/batches", {"name": "b", "kind": "k"}, shop=SHOP)).body
    assert own["shop"] == SHOP
    assert (await service.get(foreign, shop=SHOP)).status == 404
    assert (await service.post(f"{foreign}:close", shop=SHOP)).status == 404
    assert (await service.post(f"{foreign}/items", [{}], shop=SHOP)).status == 404
    said = {"name": "b", "kind": "k", "defaults": {"shop": OTHER}}
    assert (await service.post("/v1/batches", said, shop=SHOP)).status == 403
    answer = await service.post(f"/v1/batches/{own['id']}/items", [{"shop": OTHER}], shop=SHOP)
    assert (answer.body["accepted"], len(answer.body["rejected"])) == (0, 1)
    listed = (await service.get("/v1/batches", shop=SHOP)).body["items"]
    assert [batch["id"] for batch in listed] == [own["id"]]


async def test_batches_come_in_pages_newest_first(service: Any) -> None:
    made = [await open_batch(service) for _ in range(5)]
    first = await service.get("/v1/batches?limit=3")
    rest = await service.get(f"/v1/batches?limit=3&cursor={first.body['next_cursor']}")
    found = [batch["id"] for batch in first.body["items"] + rest.body["items"]]
    assert found == [path.rpartition("/")[2] for path in reversed(made)]
    assert rest.body["next_cursor"] is None
