"""What operators ask of jobs that are there: again, now, and all that match."""

import asyncio
from typing import Any

from chassis import postgres
from chassis.kernel import ids
from queue_service.core import queues
from queue_service.core.jobs import NewJob
from queue_service.core.ports import JobFilter
from queue_service.core.verbs import STATES, Sweep, Verb
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.queues import PostgresQueues
from queue_service.store.verbs import PostgresVerbs
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
OTHER = "other.myshopify.com"


async def job(service: Any, **said: Any) -> str:
    created = await service.post("/v1/jobs", {"kind": "k", **said})
    assert created.status == 201, created.body
    return str(created.body["id"])


async def read(service: Any, job_id: str) -> Any:
    return (await service.get(f"/v1/jobs/{job_id}")).body


async def fail(service: Any, job_id: str, *, attempts: int = 5) -> None:
    """As a worker that has tried so often."""
    mark = "insert into job_mark (job_id, name, lease_no) values ($1, 'sent', 1)"
    await service.fetch(mark, job_id)
    error = {"attempt": 5, "at": "2026-11-24T09:00:00Z", "type": "x", "message": "",
             "retryable": True}  # fmt: skip
    run = (
        "update queue_job set state = 'running', lease_no = lease_no + 1, attempt = $2, kills = 2,"
        " errors = $3 where id = $1"
    )
    await service.fetch(run, job_id, attempts, [error])
    await service.fetch(FAIL)


# What runs fails.
FAIL = """
select settle_jobs(array_agg(id), array_agg(lease_no), array_agg('failed'::text), '{0}',
    array[null::jsonb], array[null::jsonb], '{}')
from queue_job where state = 'running'
"""


async def test_a_failed_job_lives_again_with_its_attempts_and_errors(service: Any) -> None:
    said = {"max_attempts": 3, "timeout_s": 7, "notify": True, "tags": ["t"], "args": {"n": 1},
            "retry": {"base_s": 9}, "shop": SHOP}  # fmt: skip
    job_id = await job(service, **said)
    before = (await service.fetch("select * from queue_job"))[0]
    for attempts, granted in ((3, 6), (5, 8)):
        await fail(service, job_id, attempts=attempts)
        again = await service.post(f"/v1/jobs/{job_id}:retry")
        assert (again.status, again.body["state"]) == (200, "ready")
        assert (again.body["attempt"], again.body["max_attempts"]) == (attempts, granted)
        assert again.body["errors"][-1]["type"] == "x"
        assert again.body["finished_at"] is None
        assert await service.fetch("select * from queue_job_history") == []
        assert await service.fetch("select * from job_mark") == []
    (after,) = await service.fetch("select * from queue_job")
    for kept in (
        "timeout_s",
        "notify",
        "tags",
        "args",
        "retry",
        "fingerprint",
        "created_at",
        "lane",
    ):
        assert after[kept] == before[kept], kept
    assert (after["kills"], after["lease_no"]) == (0, 2)
    worker = ids.new_id()
    await service.fetch("insert into worker (id, name) values ($1, 'w')", worker)
    claim = "select * from claim_jobs('default', $1, 10, 10) where o_id is not null"
    (claimed,) = await service.fetch(claim, worker)
    assert (str(claimed["o_id"]), claimed["o_lease_no"], claimed["o_attempt"]) == (job_id, 3, 6)


async def test_only_failed_and_cancelled_jobs_are_retried(service: Any) -> None:
    done, cancelled, waiting = [await job(service) for _ in range(3)]
    await service.settle(done)
    assert (await service.post(f"/v1/jobs/{cancelled}:cancel")).status == 200
    for job_id, state in ((done, "completed"), (waiting, "ready")):
        refused = await service.post(f"/v1/jobs/{job_id}:retry")
        assert (refused.status, refused.body["code"]) == (409, "job_not_retryable")
        assert state in refused.body["detail"]
    retried = await service.post(f"/v1/jobs/{cancelled}:retry")
    assert (retried.status, retried.body["max_attempts"]) == (200, 5)
    assert (await service.post(f"/v1/jobs/{ids.new_id()}:retry")).status == 404
    assert (await service.post("/v1/jobs/x:retry")).status == 404


async def test_ten_that_retry_at_once_make_one_live_job_that_no_repeat_doubles(
    service: Any,
) -> None:
    said = {"kind": "k", "id": str(ids.new_id())}
    assert (await service.post("/v1/jobs", said)).status == 201
    for _ in range(5):
        await service.fetch("update queue_job set state = 'running', lease_no = lease_no + 1")
        await service.fetch(FAIL)
        calls = [service.post(f"/v1/jobs/{said['id']}:retry") for _ in range(10)]
        repeats = [service.post("/v1/jobs", said) for _ in range(10)]
        answers = await asyncio.gather(*calls, *repeats)
        assert sorted(one.status for one in answers[:10]) == [200] + [409] * 9
        assert {one.status for one in answers[10:]} == {200}
        assert await service.count() == 1


async def test_a_retry_takes_no_unique_key(service: Any) -> None:
    said = {"kind": "k", "unique": {"key": "one"}}
    first = (await service.post("/v1/jobs", said)).body["id"]
    await service.settle(first, state="failed")
    second = await service.post("/v1/jobs", said)
    assert second.status == 201
    assert (await service.post(f"/v1/jobs/{first}:retry")).status == 200
    assert (await service.post(f"/v1/jobs/{first}:cancel")).status == 200
    assert (await service.post("/v1/jobs", said)).body["id"] == second.body["id"]


async def test_what_waits_for_its_time_starts_now(service: Any) -> None:
    scheduled = await job(service, delay_s=3600)
    retrying = await job(service, delay_s=3600)
    await service.fetch("update queue_job set state = 'retrying' where id = $1", retrying)
    for job_id in (scheduled, retrying, scheduled):
        started = await service.post(f"/v1/jobs/{job_id}:run-now")
        assert (started.status, started.body["state"]) == (200, "ready")
        late_s = (
            "select extract(epoch from clock_timestamp() - run_at) from queue_job where id = $1"
        )
        assert 0 <= (await service.fetch(late_s, job_id))[0][0] < 60
    assert [row[0] for row in await service.fetch("select active from lane")] == [True]
    await service.settle(scheduled)
    refused = await service.post(f"/v1/jobs/{scheduled}:run-now")
    assert (refused.status, refused.body["code"]) == (409, "job_finished")
    await service.fetch("update queue_job set state = 'held' where id = $1", retrying)
    refused = await service.post(f"/v1/jobs/{retrying}:run-now")
    assert (refused.status, refused.body["code"]) == (409, "conflict")


async def test_another_shops_jobs_are_out_of_reach(service: Any) -> None:
    job_id = await job(service, shop=SHOP, delay_s=60)
    for verb in ("retry", "run-now"):
        denied = await service.post(f"/v1/jobs/{job_id}:{verb}", shop=OTHER)
        assert (denied.status, denied.body["code"]) == (403, "other_shop")
    theirs = {"filter": {"shop": SHOP}}
    assert (await service.post("/v1/jobs:cancel", theirs, shop=OTHER)).status == 403
    mine = await service.post("/v1/jobs:cancel", {"filter": {"kind": "k"}}, shop=OTHER)
    assert mine.body == {"matched": 0}
    assert (await read(service, job_id))["state"] == "scheduled"


async def all_swept(service: Any) -> None:
    async def done() -> bool:
        return not await service.fetch("select from job_sweep where finished_at is null")

    await eventually(done)


async def test_all_that_match_are_cancelled_and_retried_and_nothing_else(service: Any) -> None:
    wanted = [await job(service, kind="a", shop=SHOP, tags=["x"]) for _ in range(3)]
    running = wanted[0]
    await service.fetch("update queue_job set state = 'running' where id = $1", running)
    others = [
        await job(service, kind="b", shop=SHOP, tags=["x"]),
        await job(service, kind="a", shop=OTHER, tags=["x"]),
        await job(service, kind="a", shop=SHOP),
        await job(service, kind="a", tags=["x"], queue="sms", shop=SHOP),
    ]
    which = {"kind": "a", "shop": SHOP, "tag": "x", "queue": "default"}
    dry = await service.post("/v1/jobs:cancel", {"filter": which, "dry_run": True})
    assert (dry.status, dry.body) == (200, {"matched": 3})
    assert await service.fetch("select * from job_sweep") == []
    done = await service.post("/v1/jobs:cancel", {"filter": which}, key="k")
    assert done.body == {"matched": 3}
    await all_swept(service)
    states = [(await read(service, one))["state"] for one in wanted + others]
    assert states == ["running", "cancelled", "cancelled"] + ["ready"] * 4
    told = await service.fetch("select id from queue_job where cancel_requested")
    assert [str(row[0]) for row in told] == [running]
    repeat = await service.post("/v1/jobs:cancel", {"filter": which}, key="k")
    assert repeat.body == {"matched": 3}, "the answer of the first"
    reused = await service.post("/v1/jobs:cancel", {"filter": {"kind": "b"}}, key="k")
    assert (reused.status, reused.body["code"]) == (422, "idempotency_key_reused")
    back = await service.post("/v1/jobs:retry", {"filter": {"tag": "x", "state": "cancelled"}})
    assert back.body == {"matched": 2}
    await all_swept(service)
    assert [(await read(service, one))["state"] for one in wanted[1:]] == ["ready"] * 2


async def put(writer: EnqueueWriter, count: int) -> list[Any]:
    jobs = [
        NewJob(id=ids.new_id(), kind="k", queue="q", args={}, fingerprint="", is_secret=True)
        for _ in range(count)
    ]
    await writer.put_all(jobs)
    return [job.id for job in jobs]


async def test_steps_are_small_done_once_by_whoever_comes_and_spare_newer_jobs(
    database: postgres.Database, writer: EnqueueWriter
) -> None:
    """Without a service, whose own loop would be quicker."""
    await PostgresQueues(database).create(queues.fresh("q"))
    jobs = await put(writer, 90)
    verbs = PostgresVerbs(database)
    wanted = JobFilter(queue="q")
    for verb in (Verb.CANCEL, Verb.RETRY):
        asked = Sweep(id=ids.new_id(), verb=verb, wanted=wanted, states=STATES[verb])
        for _ in range(2):
            assert await verbs.ask(asked, matched=90) == (90, "")
        newer = await put(writer, 3)
        assert await verbs.step(asked.id, looked_at=7), "there is more"
        applied = await database.fetchval("select applied from job_sweep where id = $1", asked.id)
        assert 0 < applied <= 7

        async def sweep() -> None:
            while found := await verbs.open(limit=5):
                for one in found:
                    await verbs.step(one, looked_at=7)

        await asyncio.gather(sweep(), sweep(), sweep())
        applied = await database.fetchval("select applied from job_sweep where id = $1", asked.id)
        assert applied == 90
        states = await database.fetch("select state, count(*) from any_job group by 1 order by 1")
        if verb is Verb.CANCEL:
            assert states == [("cancelled", 90), ("ready", 3)]
        else:
            assert states == [("ready", 96)]
            rows = await database.fetch("select id from queue_job where granted = attempt")
            assert {row[0] for row in rows} >= {*jobs, *newer}


BAD = [
    ({}, "/filter"),
    ({"filter": {}}, "/filter"),
    ({"filter": {"color": "red"}}, "/filter/color"),
    ({"filter": {"state": "completed"}}, "/filter/state"),
    ({"filter": {"kind": "k"}, "dry_run": "yes"}, "/dry_run"),
]


async def test_a_wrong_filter_is_refused_by_name(service: Any) -> None:
    for said, pointer in BAD:
        for verb in ("cancel", "retry"):
            refused = await service.post(f"/v1/jobs:{verb}", said)
            assert refused.status == 422, said
            assert pointer in refused.pointers, (said, refused.pointers)
    running = await service.post("/v1/jobs:retry", {"filter": {"state": "running"}})
    assert running.pointers == ["/filter/state"]
    assert await service.fetch("select * from job_sweep") == []


async def test_the_failed_of_a_batch_go_again_and_it_ends_a_second_time_in_silence(
    service: Any,
) -> None:
    on_complete = {"kind": "done", "queue": "sms"}
    said = {"name": "b", "kind": "k", "on_complete": on_complete}
    batch = (await service.post("/v1/batches", said)).body["id"]
    path = f"/v1/batches/{batch}"
    items = [{"args": {"n": n}} for n in range(6)]
    assert (await service.post(f"{path}/items", items)).body["accepted"] == 6
    await service.post(f"{path}:close")
    rows = await service.fetch("select id from queue_job where batch_id is not null")
    jobs = [str(row[0]) for row in rows]
    await service.settle(*jobs[:2])
    await service.settle(*jobs[2:5], state="failed")
    await service.settle(jobs[5], state="cancelled")

    async def state() -> Any:
        return (await service.get(path)).body

    async def is_finished() -> bool:
        return (await state())["finished_at"] is not None

    await eventually(is_finished)
    ended = await state()
    assert (ended["completed"], ended["failed"], ended["cancelled"]) == (2, 3, 1)
    told = "select event_id from outbox where type like 'batch.completed%'"
    events = await service.fetch(told)
    assert len(events) == 1

    assert (await service.post(f"{path}:retry-failed")).status == 200
    await all_swept(service)
    reopened = await state()
    assert (reopened["state"], reopened["finished_at"]) == ("closed", None)
    counted = [reopened[name] for name in ("total", "ready", "completed", "failed", "cancelled")]
    assert counted == [6, 3, 2, 0, 1]
    assert reopened["on_complete_id"] == ended["on_complete_id"]

    # Even when nobody remembers the job that followed.
    await service.fetch("delete from queue_job where kind = 'done'")
    await service.settle(*jobs[2:5])
    await eventually(is_finished)
    again = await state()
    assert (again["completed"], again["failed"], again["state"]) == (5, 0, "finished")
    assert again["on_complete_id"] == ended["on_complete_id"]
    assert await service.fetch(told) == events
    assert await service.fetch("select * from queue_job") == []


async def test_jobs_of_a_cancelled_batch_stay_where_they_are(service: Any) -> None:
    batch = (await service.post("/v1/batches", {"name": "b", "kind": "k"})).body["id"]
    await service.post(f"/v1/batches/{batch}/items", [{"args": {}}])
    (row,) = await service.fetch("select id from queue_job")
    await service.settle(str(row[0]), state="failed")
    await service.post(f"/v1/batches/{batch}:cancel")
    refused = await service.post(f"/v1/jobs/{row[0]}:retry")
    assert (refused.status, refused.body["code"]) == (409, "job_not_retryable")
    assert "batch" in refused.body["detail"]
    assert (await service.post(f"/v1/batches/{batch}:retry-failed")).status == 409
