"""What is not kept: by shop, and by queue."""

import json
from typing import Any

import pytest_asyncio

from chassis import crypto, postgres
from chassis.kernel import ids
from queue_service.core.attempts import Settlement, Status, Verb
from queue_service.core.leasing import Claim
from queue_service.store.engine import EngineStore
from queue_service.store.sealing import Seals
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
OTHER = "other.myshopify.com"
SECRET = "Ελένη +306900000183"
FAIL = """
select settle_jobs(array_agg(id), array_agg(lease_no), array_agg('failed'::text), '{0}',
    array[null::jsonb], array_agg(jsonb_build_object('message', $1::text)), '{}')
from queue_job where state = 'running'
"""


async def job(service: Any, shop: str = SHOP, **said: Any) -> str:
    body = {"kind": "k", "shop": shop, "args": {"to": SECRET}, **said}
    created = await service.post("/v1/jobs", body)
    assert created.status == 201, created.body
    return str(created.body["id"])


async def start(service: Any, job_id: str) -> None:
    run = "update queue_job set state = 'running', lease_no = lease_no + 1 where id = $1"
    await service.fetch(run, job_id)


async def settle(service: Any, job_id: str, verb: str = "completed") -> None:
    """With a result and a progress that tell as much as the args."""
    await start(service, job_id)
    await service.fetch("update queue_job set progress = $2 where id = $1", job_id, {"of": SECRET})
    await service.fetch(
        "select settle_jobs(array[$1::uuid], array(select lease_no from queue_job where id = $1),"
        " array[$2::text], '{0}', array[$3::jsonb], array[null::jsonb], '{}')",
        job_id, verb, {"sent": SECRET},
    )  # fmt: skip


async def rows(service: Any, shop: str) -> str:
    """All that is stored of a shop's jobs."""
    found = [
        await service.fetch(f"select to_jsonb(t) from {table} t where shop = $1", shop)
        for table in ("queue_job", "queue_job_done", "queue_job_failed")
    ]
    return json.dumps([row[0] for part in found for row in part], ensure_ascii=False)


async def test_nothing_is_kept_of_a_shop_but_its_ids(service: Any) -> None:
    said = {"kind": "k", "shop": SHOP, "args": {"to": SECRET}, "id": str(ids.new_id())}
    assert (await service.post("/v1/jobs", said)).status == 201
    await settle(service, said["id"])
    failed, running, another = [await job(service) for _ in range(3)]
    await start(service, failed)
    await service.fetch(FAIL, SECRET)
    await start(service, running)
    await start(service, another)
    waiting = [await job(service), await job(service, delay_s=3600)]
    foreign = await job(service, shop=OTHER)
    assert SECRET in await rows(service, SHOP)

    denied = await service.call("DELETE", f"/v1/shops/{SHOP}/jobs", shop=OTHER)
    assert (denied.status, denied.body["code"]) == (403, "other_shop")
    deleted = await service.call("DELETE", f"/v1/shops/{SHOP.upper()}/jobs", shop=SHOP)
    assert (deleted.status, deleted.body) == (200, {"matched": 6})

    async def forgotten() -> bool:
        return not await service.fetch("select from job_sweep where finished_at is null")

    await eventually(forgotten)
    assert SECRET not in await rows(service, SHOP)
    for one in waiting:
        assert (await service.get(f"/v1/jobs/{one}")).body["state"] == "cancelled"
    # Those that ran are told to stop, and leave nothing whatever they do.
    assert len(await service.fetch("select id from queue_job where cancel_requested")) == 2
    await settle(service, another)
    await service.fetch(FAIL, SECRET)
    assert SECRET not in await rows(service, SHOP)
    repeat = await service.post("/v1/jobs", said)
    assert (repeat.status, repeat.body["state"]) == (200, "completed")
    retry = await service.post(f"/v1/jobs/{failed}:retry")
    assert (retry.status, retry.body["code"]) == (409, "job_not_retryable")
    assert (await service.get(f"/v1/jobs/{foreign}")).body["args"] == {"to": SECRET}
    assert (await service.fetch("select state from queue_job")) == [("ready",)]


async def test_a_queue_can_drop_args_and_results_when_its_jobs_end(service: Any) -> None:
    made = await service.call("PUT", "/v1/queues/private", {"drop_on_finish": True})
    assert (made.status, made.body["drop_on_finish"]) == (201, True)
    ended = {}
    for verb in ("completed", "failed", "cancelled"):
        ended[verb] = await job(service, queue="private")
        await settle(service, ended[verb], verb)
    waiting = await job(service, queue="private")
    assert (await service.get(f"/v1/jobs/{waiting}")).body["args"] == {"to": SECRET}
    await service.post(f"/v1/jobs/{waiting}:cancel")
    for job_id in (*ended.values(), waiting):
        read = (await service.get(f"/v1/jobs/{job_id}")).body
        assert (read["args"], read["result"]) == ({}, None)
    refused = await service.post(f"/v1/jobs/{ended['failed']}:retry")
    assert (refused.status, refused.body["code"]) == (409, "job_not_retryable")
    await service.call("PATCH", "/v1/queues/private", {"drop_on_finish": False})
    kept = await job(service, queue="private")
    await settle(service, kept)
    assert (await service.get(f"/v1/jobs/{kept}")).body["result"] == {"sent": SECRET}


KEYS = {"queue_keys": f"k1:{crypto.new_key()}"}
READ = frozenset({"jobs:read"})
WRITE = frozenset({"jobs:write"})


@pytest_asyncio.fixture
async def sealing(start: Any) -> Any:
    """A service with keys, and `sealed`, a queue for them."""
    service = await start(**KEYS)
    made = await service.call("PUT", "/v1/queues/sealed", {"sealed": True})
    assert (made.status, made.body["sealed"]) == (201, True)
    return service


async def put_in(service: Any, **said: Any) -> Any:
    body = {"kind": "k", "shop": SHOP, "queue": "sealed", "args": {"to": SECRET}, **said}
    return await service.post("/v1/jobs", body)


async def test_a_sealed_queue_needs_keys(service: Any) -> None:
    refused = await service.call("PUT", "/v1/queues/sealed", {"sealed": True})
    assert (refused.status, refused.pointers) == (422, ["/sealed"])


async def test_sealed_jobs_are_opened_for_readers_alone(sealing: Any) -> None:
    created = await put_in(sealing, unique={"by": ["shop"]})
    assert (created.status, created.body["args"]) == (201, {"to": SECRET})
    assert SECRET not in await rows(sealing, SHOP)
    path = f"/v1/jobs/{created.body['id']}"
    for answer in (await sealing.get(path), (await sealing.get("/v1/jobs"))):
        assert SECRET in answer.raw.decode()
    merged = await put_in(sealing, unique={"by": ["shop"]}, args={})
    told = await sealing.post(f"{path}:cancel", scopes=WRITE)
    retried = await sealing.post(f"{path}:retry", scopes=WRITE)
    for answer in (merged, told, retried):
        assert (answer.status, answer.body["args"]) == (200, {})
    assert (await sealing.get(path, scopes=READ)).body["args"] == {"to": SECRET}


async def test_every_way_in_seals(sealing: Any, start: Any) -> None:
    """A replica that knew the queue before it was sealed learns of it by the first refusal."""
    other = await start(**KEYS)
    assert (await put_in(other)).status == 201
    for atomic in (True, False):
        jobs = [{"kind": "k", "shop": SHOP, "queue": "sealed", "args": {"to": SECRET}}] * 3
        batch = await other.post("/v1/jobs:batch", {"jobs": jobs, "atomic": atomic})
        assert [one["status"] for one in batch.body["results"]] == ["created"] * 3
    said = {"name": "b", "kind": "k", "queue": "sealed", "shop": SHOP}
    path = f"/v1/batches/{(await other.post('/v1/batches', said)).body['id']}"
    assert (await other.post(f"{path}/items", [{"args": {"to": SECRET}}])).body["accepted"] == 1
    assert (await sealing.fetch("select count(*) from queue_job"))[0][0] == 8
    assert SECRET not in await rows(sealing, SHOP)
    for item in (await other.get("/v1/jobs")).body["items"]:
        assert item["args"] == {"to": SECRET}


async def test_what_replaces_sealed_args_is_sealed_for_the_job_it_is_in(sealing: Any) -> None:
    unique = {"key": "x", "on_conflict": "replace"}
    first = (await put_in(sealing, unique=unique, args={"v": 1})).body["id"]
    for queue in ("sealed", "default"):
        merged = await put_in(sealing, unique=unique, args={"v": queue}, queue=queue)
        assert (merged.status, merged.body["id"]) == (200, first)
        assert (await sealing.get(f"/v1/jobs/{first}")).body["args"] == {"v": queue}
    assert await sealing.fetch("select from queue_job where jsonb_typeof(args) <> 'string'") == []
    twice = [
        {"kind": "k2", "queue": "sealed", "unique": unique, "args": {"v": n}} for n in range(3)
    ]
    results = (await sealing.post("/v1/jobs:batch", {"jobs": twice})).body["results"]
    assert (await sealing.get(f"/v1/jobs/{results[0]['id']}")).body["args"] == {"v": 2}


async def test_a_sealed_value_does_not_open_in_another_job(sealing: Any) -> None:
    one, two = [(await put_in(sealing)).body["id"] for _ in range(2)]
    moved = "update queue_job set args = (select args from queue_job where id = $1) where id = $2"
    await sealing.fetch(moved, one, two)
    broken = await sealing.get(f"/v1/jobs/{two}")
    assert (broken.status, broken.body["code"]) == (500, "decrypt_failed")
    assert (await sealing.get(f"/v1/jobs/{one}")).status == 200


async def test_workers_get_sealed_args_open_and_their_results_are_sealed(
    sealing: Any, database: postgres.Database
) -> None:
    job_id, moved = [(await put_in(sealing)).body["id"] for _ in range(2)]
    steal = "update queue_job set args = (select args from queue_job where id = $1) where id = $2"
    await sealing.fetch(steal, job_id, moved)
    worker = ids.new_id()
    await sealing.fetch("insert into worker (id, name) values ($1, 'w')", worker)
    store = EngineStore(database, Seals.of(KEYS["queue_keys"]))
    _, jobs, _ = await store.settle_and_claim([], Claim("sealed", worker, 10, 10))
    claimed = {str(one.id): one for one in jobs}
    assert (claimed[job_id].args, claimed[job_id].is_broken) == ({"to": SECRET}, False)
    assert (claimed[moved].args, claimed[moved].is_broken) == ({}, True)
    ended = Settlement(
        id=claimed[job_id].id,
        lease_no=1,
        verb=Verb.COMPLETED,
        result={"sent": SECRET},
        is_sealed=claimed[job_id].is_sealed,
    )
    assert await store.settle([ended]) == [Status.SETTLED]
    assert SECRET not in await rows(sealing, SHOP)
    assert (await sealing.get(f"/v1/jobs/{job_id}")).body["result"] == {"sent": SECRET}


async def test_pulled_jobs_are_opened_and_their_results_sealed(sealing: Any) -> None:
    job_id = (await put_in(sealing)).body["id"]
    leased = (await sealing.post("/v1/queues/sealed:lease", {"max": 1, "worker": "w"})).body
    (job,) = leased["jobs"]
    assert (job["id"], job["args"]) == (job_id, {"to": SECRET})
    outcome = {"id": job_id, "token": job["lease"]["token"], "outcome": "completed"}
    settle = {"outcomes": [{**outcome, "result": {"sent": SECRET}}]}
    assert (await sealing.post("/v1/leases:settle", settle)).body["results"][0][
        "status"
    ] == "settled"
    assert SECRET not in await rows(sealing, SHOP)
    assert (await sealing.get(f"/v1/jobs/{job_id}")).body["result"] == {"sent": SECRET}
