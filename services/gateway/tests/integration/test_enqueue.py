"""The roads of an enqueue, seen from outside."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from contracts.jobs import JobCreate
from gateway.api import keys
from gateway.core import parcels
from testkit.signals import eventually

LONG = 8.0


async def rows(gateway: Any) -> int:
    connection = await asyncpg.connect(gateway.dsn)
    try:
        return int(await connection.fetchval("select count(*) from accepted"))
    finally:
        await connection.close()


async def knows_queues(gateway: Any) -> None:
    connection = await asyncpg.connect(gateway.dsn)
    try:
        await eventually(lambda: connection.fetchval("select count(*) from known_queue"))
    finally:
        await connection.close()


async def test_a_job_goes_straight_to_its_owner(gateway: Any, job: Any) -> None:
    status, body, headers = await gateway.tell("POST", "/v1/jobs", json=job)
    assert (status, body["kind"], headers["Mainstay-Road"]) == (201, "sms.send", "direct")
    assert headers["Location"] == f"/v1/jobs/{body['id']}"
    assert "Degraded" not in headers
    assert headers["traceparent"]
    status, read, headers = await gateway.tell("GET", f"/v1/jobs/{body['id']}")
    assert (status, read) == (200, body)
    assert (headers["Mainstay-Road"], headers["Mainstay-Backend"]) == ("direct", "postgres")


async def test_jobs_that_come_together_travel_together(gateway: Any, job: Any) -> None:
    asked = [gateway.tell("POST", "/v1/jobs", json=job) for _ in range(60)]
    answers = await asyncio.gather(*asked)
    assert {status for status, _, _ in answers} == {201}
    assert len({body["id"] for _, body, _ in answers}) == 60
    assert len(gateway.owners.queue.loads) < 60


async def test_a_repeated_key_is_one_job(gateway: Any, job: Any) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first = await gateway.tell("POST", "/v1/jobs", json=job, headers=headers)
    reordered = dict(reversed(job.items()))
    again = await gateway.tell("POST", "/v1/jobs", json=reordered, headers=headers)
    assert (first[0], again[0]) == (201, 200)
    assert first[1]["id"] == again[1]["id"]
    assert again[2]["Idempotent-Replay"] == "true"
    other = await gateway.tell("POST", "/v1/jobs", json={**job, "args": {}}, headers=headers)
    assert (other[0], other[1]["code"]) == (422, "idempotency_key_reused")
    assert len(gateway.owners.queue.jobs) == 1


async def test_a_frozen_owner_means_202_and_exactly_one_job_later(gateway: Any, job: Any) -> None:
    await knows_queues(gateway)
    queue = gateway.owners.queue
    queue.freeze()
    headers = {"Idempotency-Key": "once"}
    answers = await asyncio.gather(
        gateway.tell("POST", "/v1/jobs", json=job, headers=headers),
        gateway.tell("POST", "/v1/jobs", json=job, headers=headers),
        *(gateway.tell("POST", "/v1/jobs", json=job) for _ in range(10)),
    )
    assert [status for status, _, _ in answers] == [202] * 12
    ids = [body["id"] for _, body, _ in answers]
    assert ids[0] == ids[1]
    _status, body, said = answers[0]
    assert body == {"id": ids[0], "state": "accepted"}
    assert (said["Mainstay-Road"], said["Degraded"]) == ("spool", "enqueue;spool")
    assert said["Location"] == f"/v1/jobs/{ids[0]}"
    other = await gateway.tell("POST", "/v1/jobs", json={"kind": "x"}, headers=headers)
    assert (other[0], other[1]["code"]) == (422, "idempotency_key_reused")
    waiting = await gateway.tell("GET", f"/v1/jobs/{ids[5]}")
    assert (waiting[0], waiting[1]["state"]) == (202, "accepted")
    assert await rows(gateway) == 11
    queue.thaw()
    await eventually(lambda: set(ids) <= queue.jobs.keys(), LONG)
    assert queue.jobs.keys() == set(ids)

    async def empty() -> bool:
        return await rows(gateway) == 0

    await eventually(empty, LONG)

    async def is_readable() -> bool:
        return bool((await gateway.tell("GET", f"/v1/jobs/{ids[5]}"))[0] == 200)

    await eventually(is_readable, LONG)


async def test_a_dead_owner_costs_no_time(gateway: Any, job: Any) -> None:
    await knows_queues(gateway)
    await gateway.owners.queue.stop()
    loop = asyncio.get_running_loop()
    started = loop.time()
    status, body, _ = await gateway.tell("POST", "/v1/jobs", json=job)
    assert status == 202
    assert loop.time() - started < 1.0
    cancelled = await gateway.tell("POST", f"/v1/jobs/{body['id']}:cancel")
    assert (cancelled[0], cancelled[1]["retryable"]) == (503, True)
    await gateway.owners.queue.start()
    await eventually(lambda: body["id"] in gateway.owners.queue.jobs, LONG)


async def test_a_verb_on_a_job_in_motion_is_repeated_by_its_own_shop_alone(gateway: Any) -> None:
    stamp = parcels.Stamp(now=datetime.now(UTC), key_shop="a.myshopify.com", key=None)
    parcel = parcels.pack(JobCreate(kind="x"), {"kind": "x"}, stamp)
    gateway.app[keys.IN_MOTION].remember([parcel])
    mine, others = [
        await gateway.key("jobs:write", shop=f"{name}.myshopify.com") for name in ("a", "b")
    ]
    cancel = f"/v1/jobs/{parcel.id}:cancel"
    answers = [await gateway.tell("POST", cancel, key=key) for key in (mine, others)]
    assert [(status, body["code"]) for status, body, _ in answers] == [
        (503, "unavailable"),
        (404, "not_found"),
    ]


async def test_args_too_large_are_refused_before_they_are_promised(gateway: Any, job: Any) -> None:
    await knows_queues(gateway)
    await gateway.owners.queue.stop()
    large = {**job, "args": {"text": "x" * 256 * 1024}}
    status, body, _ = await gateway.tell("POST", "/v1/jobs", json=large)
    assert (status, body["errors"][0]["pointer"]) == (422, "/args")
    wanted = {"jobs": [job, large]}
    status, body, _ = await gateway.tell("POST", "/v1/jobs:batch", json=wanted)
    assert (status, [each["status"] for each in body["results"]]) == (202, ["accepted", "rejected"])
    assert await rows(gateway) == 1


async def test_what_the_owner_would_refuse_is_refused_on_every_road(gateway: Any, job: Any) -> None:
    unknown = {**job, "queue": "nowhere"}
    status, body, _ = await gateway.tell("POST", "/v1/jobs", json=unknown)
    assert (status, body["code"]) == (422, "unknown_queue")
    await knows_queues(gateway)
    await gateway.owners.queue.stop()
    status, body, _ = await gateway.tell("POST", "/v1/jobs", json=unknown)
    assert (status, body["code"], body["errors"][0]["pointer"]) == (422, "unknown_queue", "/queue")
    assert await rows(gateway) == 0


async def test_a_queue_made_through_the_gateway_is_known_on_every_road(
    gateway: Any, job: Any
) -> None:
    assert (await gateway.tell("PUT", "/v1/queues/fresh", json={}))[0] == 200
    await gateway.owners.queue.stop()
    assert (await gateway.tell("POST", "/v1/jobs", json={**job, "queue": "fresh"}))[0] == 202


async def test_without_any_road_it_is_503_and_retryable(
    make_gateway: Any, make_database: Any, job: Any
) -> None:
    from gateway.__main__ import MIGRATIONS
    from testkit.faults import TcpProxy

    dsn = await make_database(MIGRATIONS)
    async with TcpProxy.before(dsn) as proxy:
        gateway = await make_gateway(database_url=proxy.url(dsn))
        gateway.dsn = dsn
        await knows_queues(gateway)
        await gateway.owners.queue.stop()
        await proxy.refuses()
        status, body, headers = await gateway.tell("POST", "/v1/jobs", json=job)
        assert (status, body["code"], body["retryable"]) == (503, "enqueue_unavailable", True)
        assert int(headers["Retry-After"]) >= 1
        assert (await gateway.tell("GET", f"/v1/jobs/{uuid4()}"))[0] == 503
        assert (await gateway.tell("GET", "/readyz"))[0] == 200


@pytest.mark.parametrize("atomic", [False, True])
async def test_a_batch_is_judged_item_by_item(gateway: Any, job: Any, atomic: bool) -> None:
    body = {"jobs": [job, {"kind": ""}, {**job, "zap": 1}], "atomic": atomic}
    status, answer, _ = await gateway.tell("POST", "/v1/jobs:batch", json=body)
    if atomic:
        assert status == 422
        pointers = [each["pointer"] for each in answer["errors"]]
        assert pointers == ["/jobs/1/kind", "/jobs/2/zap"]
        assert gateway.owners.queue.jobs == {}
        return
    assert status == 200
    assert [each["status"] for each in answer["results"]] == ["created", "rejected", "rejected"]
    assert answer["results"][1]["problem"]["status"] == 422
    assert len(gateway.owners.queue.jobs) == 1


async def test_a_batch_of_a_thousand_takes_the_spool_when_its_owner_is_away(
    gateway: Any, job: Any
) -> None:
    await knows_queues(gateway)
    await gateway.owners.queue.stop()
    body = {"jobs": [job] * 1000}
    headers = {"Idempotency-Key": "thousand"}
    status, first, said = await gateway.tell("POST", "/v1/jobs:batch", json=body, headers=headers)
    assert (status, said["Mainstay-Road"]) == (202, "spool")
    assert {each["status"] for each in first["results"]} == {"accepted"}
    again = await gateway.tell("POST", "/v1/jobs:batch", json=body, headers=headers)
    assert (again[0], again[1]) == (202, first)
    other = {"jobs": [job] * 3}
    status, answer, _ = await gateway.tell("POST", "/v1/jobs:batch", json=other, headers=headers)
    assert (status, answer["code"]) == (422, "idempotency_key_reused")
    await gateway.owners.queue.start()
    await eventually(lambda: len(gateway.owners.queue.jobs) == 1000, 20)
    assert gateway.owners.queue.jobs.keys() == {each["id"] for each in first["results"]}


async def test_a_collision_found_after_a_202_becomes_a_visible_rejected_job(
    gateway: Any, job: Any
) -> None:
    await knows_queues(gateway)
    headers = {"Idempotency-Key": "taken"}
    assert (await gateway.tell("POST", "/v1/jobs", json=job, headers=headers))[0] == 201
    await gateway.owners.queue.stop()
    other = {**job, "args": {"to": "somebody else"}}
    status, promised, _ = await gateway.tell("POST", "/v1/jobs", json=other, headers=headers)
    assert status == 202
    await gateway.owners.queue.start()

    async def is_rejected() -> bool:
        read = await gateway.tell("GET", f"/v1/jobs/{promised['id']}")
        return bool(read[1].get("state") == "rejected")

    await eventually(is_rejected, LONG)
    assert await rows(gateway) == 0


async def test_a_callers_own_id_is_one_job_while_it_waits_too(gateway: Any, job: Any) -> None:
    await knows_queues(gateway)
    await gateway.owners.queue.stop()
    own = {**job, "id": "0193f8a0-0000-7000-8000-00000000000a"}
    for _ in range(2):
        status, body, _ = await gateway.tell("POST", "/v1/jobs", json=own)
        assert (status, body["id"]) == (202, own["id"])
    other = {**own, "args": {}}
    status, body, _ = await gateway.tell("POST", "/v1/jobs", json=other)
    assert (status, body["code"]) == (409, "id_taken")
    batch = {"jobs": [other, job, {**job, "queue": "nowhere"}, {**own, "tags": ["x"]}, own]}
    status, answer, _ = await gateway.tell("POST", "/v1/jobs:batch", json=batch)
    assert status == 202
    assert [each["status"] for each in answer["results"]] == [
        "rejected", "accepted", "rejected", "rejected", "accepted",
    ]  # fmt: skip
    assert answer["results"][0]["problem"]["code"] == "id_taken"
    assert answer["results"][2]["problem"]["code"] == "unknown_queue"
    assert await rows(gateway) == 2


async def test_another_batch_under_the_same_key_leaves_nothing_behind(
    gateway: Any, job: Any
) -> None:
    headers = {"Idempotency-Key": "b"}
    first = await gateway.tell("POST", "/v1/jobs:batch", json={"jobs": [job]}, headers=headers)
    assert first[0] == 200
    longer = {"jobs": [{**job, "args": {}}, job, job]}
    status, body, _ = await gateway.tell("POST", "/v1/jobs:batch", json=longer, headers=headers)
    assert (status, body["code"]) == (422, "idempotency_key_reused")
    assert len(gateway.owners.queue.jobs) == 1


async def test_what_the_owner_refuses_to_read_holds_up_nothing_else(gateway: Any, job: Any) -> None:
    queue = gateway.owners.queue
    await knows_queues(gateway)
    queue.chokes_on = "poison"
    await queue.stop()
    for kind in ("good.one", "poison", "good.two"):
        assert (await gateway.tell("POST", "/v1/jobs", json={**job, "kind": kind}))[0] == 202
    await queue.start()

    def kinds() -> set[str]:
        return {each["kind"] for each in queue.jobs.values()}

    await eventually(lambda: kinds() == {"good.one", "good.two"}, LONG)
    assert await rows(gateway) == 1


async def test_a_request_gets_its_answer_within_its_own_time(gateway: Any, job: Any) -> None:
    await knows_queues(gateway)
    gateway.owners.queue.freeze()
    loop = asyncio.get_running_loop()
    started = loop.time()
    said = {"Request-Timeout-Ms": "800"}
    status, _, _ = await gateway.tell("POST", "/v1/jobs", json=job, headers=said)
    assert status == 202
    assert loop.time() - started < 1.2
