"""Unique jobs: one at a time that is the same, whoever asks, however often."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from chassis import postgres
from chassis.kernel import ids
from queue_service.core.jobs import NewJob, Unique, Verdict
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.jobs import PostgresJobs
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
BY_ARGS = {"by": ["args"]}


def said(**more: Any) -> dict[str, Any]:
    return {"kind": "stock.sync", "shop": SHOP, "args": {"n": 1}, "unique": BY_ARGS, **more}


async def live(service: Any) -> int:
    return int((await service.fetch("select count(*) from queue_job"))[0][0])


async def test_twenty_callers_at_once_get_one_job(service: Any) -> None:
    answers = await asyncio.gather(*(service.post("/v1/jobs", said()) for _ in range(20)))
    assert sorted(one.status for one in answers) == [200] * 19 + [201]
    assert len({one.body["id"] for one in answers}) == 1
    assert sum(one.headers.get("Idempotent-Replay") == "true" for one in answers) == 19
    assert await live(service) == 1


async def test_enqueues_that_race_with_settles_never_leave_two_live_or_a_stale_claim(
    service: Any,
) -> None:
    """Every job is settled as soon as it is seen, while others ask for the same."""
    made = set()

    async def ask() -> None:
        for _ in range(15):
            answer = await service.post("/v1/jobs", said())
            assert answer.status in (200, 201), answer.body
            if answer.status == 201:
                made.add(answer.body["id"])
                assert await live(service) <= 1
                await service.settle(answer.body["id"])

    await asyncio.gather(*(ask() for _ in range(4)))
    assert len(made) > 1
    assert (await service.fetch("select count(*) from queue_job_done"))[0][0] == len(made)
    assert await service.fetch("select * from unique_claim") == []


async def test_what_is_named_decides_within_shop_and_kind(service: Any) -> None:
    first = (await service.post("/v1/jobs", said())).body["id"]
    others = [
        said(args={"n": 2}),
        said(args={}),
        said(kind="stock.sync2"),
        said(shop="other.myshopify.com"),
        said(unique={"by": ["kind"]}),
        said(unique={"by": ["args.n", "queue"]}),
        said(unique={"key": "n"}),
    ]
    for other in others:
        assert (await service.post("/v1/jobs", other)).status == 201, other
        assert (await service.post("/v1/jobs", other)).status == 200, other
    same = said(unique={"by": ["kind", "args", "shop"]}, queue="sms", priority=1)
    assert (await service.post("/v1/jobs", same)).body["id"] == first
    assert (await service.post("/v1/jobs", said(unique=None))).status == 201
    absent = await service.post("/v1/jobs", said(args={}, unique={"by": ["args.n"]}))
    null = await service.post("/v1/jobs", said(args={"n": None}, unique={"by": ["args.n"]}))
    assert (absent.status, null.status) == (201, 201)


async def test_the_key_is_free_again_when_the_job_has_ended(service: Any) -> None:
    for state in ("completed", "failed", "cancelled"):
        created = await service.post("/v1/jobs", said())
        assert created.status == 201
        await service.settle(created.body["id"], state=state)
    created = await service.post("/v1/jobs", said())
    assert (await service.post(f"/v1/jobs/{created.body['id']}:cancel")).status == 200
    assert (await service.post("/v1/jobs", said())).status == 201


async def test_a_window_outlives_the_job_and_ends_by_itself(service: Any) -> None:
    wanted = said(unique={**BY_ARGS, "window_s": 3600})
    first = await service.post("/v1/jobs", wanted)
    await service.settle(first.body["id"])
    again = await service.post("/v1/jobs", wanted)
    assert (again.status, again.body["id"]) == (200, first.body["id"])
    assert again.body["state"] == "completed"
    over = "update unique_claim set until = clock_timestamp() - interval '1 s'"
    await service.fetch(over)
    second = await service.post("/v1/jobs", wanted)
    assert second.status == 201
    await service.fetch(over)
    assert (await service.post("/v1/jobs", wanted)).status == 201, "a window without states"
    both = said(unique={**BY_ARGS, "window_s": 3600, "states": ["ready"]}, args={"n": 9})
    assert (await service.post("/v1/jobs", both)).status == 201
    await service.fetch(over)
    assert (await service.post("/v1/jobs", both)).status == 200
    await service.fetch("select forget_claims(1000)")
    assert len(await service.fetch("select * from unique_claim")) == 1, "its job is live"


async def test_states_say_in_which_of_them_a_twin_counts(service: Any) -> None:
    wanted = said(unique={**BY_ARGS, "states": ["ready", "scheduled"]})
    first = await service.post("/v1/jobs", wanted)
    assert (await service.post("/v1/jobs", wanted)).status == 200
    await service.fetch("update queue_job set state = 'running', lease_no = 1")
    second = await service.post("/v1/jobs", wanted)
    assert second.status == 201
    # The one that was overtaken ends, and does not take the other's claim with it.
    await service.settle(first.body["id"])
    assert (await service.post("/v1/jobs", wanted)).body["id"] == second.body["id"]


async def test_replace_takes_args_time_and_priority_and_keeps_the_id(service: Any) -> None:
    unique = {"key": "report", "on_conflict": "replace"}
    first = await service.post("/v1/jobs", said(unique=unique, delay_s=60))
    other = said(unique=unique, args={"n": 2}, delay_s=600, priority=1)
    replaced = await service.post("/v1/jobs", other)
    assert (replaced.status, replaced.body["id"]) == (200, first.body["id"])
    assert (replaced.body["args"], replaced.body["priority"]) == ({"n": 2}, 1)
    assert replaced.body["run_at"] > first.body["run_at"]
    now = await service.post("/v1/jobs", said(unique=unique, args={"n": 3}))
    assert now.body["run_at"] < first.body["run_at"]
    await service.fetch("select stage_jobs(10)")
    assert (await service.get(f"/v1/jobs/{first.body['id']}")).body["state"] == "ready"
    later = await service.post("/v1/jobs", other)
    assert later.body["state"] == "scheduled"
    await service.fetch("update queue_job set state = 'running', lease_no = 1")
    running = await service.post("/v1/jobs", said(unique=unique, args={"n": 4}))
    assert (running.status, running.body["args"]) == (200, {"n": 2})


async def test_extend_puts_off_and_no_longer_than_its_window(service: Any) -> None:
    unique = {"key": "cart", "on_conflict": "extend", "window_s": 100}
    first = await service.post("/v1/jobs", said(unique=unique, delay_s=10))
    later = await service.post("/v1/jobs", said(unique=unique, delay_s=50, args={"n": 2}))
    assert later.body["run_at"] > first.body["run_at"]
    assert later.body["args"] == {"n": 1}
    sooner = await service.post("/v1/jobs", said(unique=unique))
    assert sooner.body["run_at"] == later.body["run_at"]
    await service.post("/v1/jobs", said(unique=unique, delay_s=5000))
    waits = await service.fetch(
        "select extract(epoch from run_at - created_at)::float8 from queue_job"
    )
    assert [row[0] for row in waits] == [pytest.approx(100, abs=1)]


async def test_reject_names_the_job_that_was_there_and_stores_nothing(service: Any) -> None:
    first = await service.post("/v1/jobs", said())
    mine = str(ids.new_id())
    wanted = said(id=mine, unique={**BY_ARGS, "on_conflict": "reject"})
    refused = await service.post("/v1/jobs", wanted, key="k")
    assert (refused.status, refused.body["code"]) == (409, "unique_conflict")
    assert first.body["id"] in refused.body["detail"]
    assert (await service.get(f"/v1/jobs/{mine}")).status == 404
    await service.settle(first.body["id"])
    assert (await service.post("/v1/jobs", wanted, key="k")).status == 201


async def test_a_merged_id_is_the_job_it_was_merged_into(service: Any) -> None:
    first = (await service.post("/v1/jobs", said())).body["id"]
    mine = str(ids.new_id())
    replace = {**BY_ARGS, "on_conflict": "replace"}
    merged = await service.post("/v1/jobs", said(id=mine, unique=replace, priority=1))
    assert (merged.status, merged.body["id"], merged.body["priority"]) == (200, first, 1)
    assert (await service.get(f"/v1/jobs/{mine}")).body == merged.body
    await service.fetch("update queue_job set priority = 7")
    # A repeat applies nothing, neither while the job lives nor when another has its key.
    again = await service.post("/v1/jobs", said(id=mine, unique=replace, priority=1))
    assert (again.status, again.body["id"], again.body["priority"]) == (200, first, 7)
    await service.settle(first)
    again = await service.post("/v1/jobs", said(id=mine, unique=replace, priority=1))
    assert (again.status, again.body["state"]) == (200, "completed")
    assert await live(service) == 0
    for body in (said(id=mine, unique=replace, priority=2), said(id=mine, unique=None)):
        taken = await service.post("/v1/jobs", body)
        assert (taken.status, taken.body["code"]) == (409, "id_taken")


async def test_an_idempotency_key_is_asked_before_the_unique_one(service: Any) -> None:
    first = (await service.post("/v1/jobs", said())).body["id"]
    merged = await service.post("/v1/jobs", said(), key="k")
    assert (merged.status, merged.body["id"]) == (200, first)
    await service.settle(first)
    repeat = await service.post("/v1/jobs", said(), key="k")
    assert (repeat.status, repeat.body["id"]) == (200, first)
    other = await service.post("/v1/jobs", said(priority=1), key="k")
    assert (other.status, other.body["code"]) == (422, "idempotency_key_reused")
    assert await live(service) == 0


async def test_in_one_call_the_first_is_stored_and_the_others_are_it(service: Any) -> None:
    replace = {"key": "r", "on_conflict": "replace"}
    jobs = [
        said(),
        said(),
        said(unique=None),
        said(unique={**BY_ARGS, "on_conflict": "reject"}),
        said(unique=replace, args={"v": 1}),
        said(unique=replace, args={"v": 2}),
        said(queue="nowhere"),
    ]
    answer = await service.post("/v1/jobs:batch", {"jobs": jobs})
    results = answer.body["results"]
    statuses = ["created", "existing", "created", "rejected", "created", "existing", "rejected"]
    assert [one["status"] for one in results] == statuses
    assert results[0]["id"] == results[1]["id"]
    assert results[3]["problem"]["code"] == "unique_conflict"
    assert results[6]["problem"]["code"] == "unknown_queue"
    replaced = await service.get(f"/v1/jobs/{results[5]['id']}")
    assert replaced.body["args"] == {"v": 2}
    reject = {**replace, "on_conflict": "reject"}
    none = {"atomic": True, "jobs": [said(unique=None), said(unique=reject)]}
    refused = await service.post("/v1/jobs:batch", none)
    assert (refused.status, refused.body["code"]) == (422, "unique_conflict")
    assert await live(service) == 3


async def test_a_promised_duplicate_can_be_read_under_its_id(service: Any) -> None:
    first = (await service.post("/v1/jobs", said())).body["id"]
    promised, wrong = str(ids.new_id()), str(ids.new_id())
    reject = {**BY_ARGS, "on_conflict": "reject"}
    command = {
        "type": "commands.job.accept.v1",
        "promised": True,
        "jobs": [
            {
                "id": one,
                "accepted_at": datetime.now(UTC).isoformat(),
                "job": job,
                "fingerprint": one,
            }
            for one, job in ((promised, said()), (wrong, said(unique=reject)))
        ],
    }
    for statuses in (["existing", "rejected"], ["existing", "existing"]):
        answer = await service.post(
            "/internal/v1/jobs:accept", command, scopes=frozenset({"service"})
        )
        assert [one["status"] for one in answer.body["results"]] == statuses
    assert (await service.get(f"/v1/jobs/{promised}")).body["id"] == first
    rejected = (await service.get(f"/v1/jobs/{wrong}")).body
    assert (rejected["state"], rejected["errors"][-1]["type"]) == ("rejected", "unique_conflict")


BAD = [
    ({}, "/unique"),
    ({"by": ["args"], "key": "k"}, "/unique"),
    ({"by": []}, "/unique/by"),
    ({"by": ["priority"]}, "/unique/by/0"),
    ({"key": "k", "states": ["completed"]}, "/unique/states/0"),
    ({"key": "k", "window_s": 0}, "/unique/window_s"),
    ({"key": "k", "on_conflict": "drop"}, "/unique/on_conflict"),
]


async def test_a_wrong_unique_is_refused_by_name(service: Any) -> None:
    for unique, pointer in BAD:
        refused = await service.post("/v1/jobs", said(unique=unique))
        assert (refused.status, refused.body["code"]) == (422, "invalid"), unique
        assert pointer in refused.pointers, (unique, refused.pointers)
    assert await live(service) == 0


async def test_calls_with_the_same_keys_in_opposite_order_do_not_block_each_other(
    service: Any, database: postgres.Database, writer: EnqueueWriter
) -> None:
    def jobs(order: range) -> list[NewJob]:
        return [
            NewJob(
                id=ids.new_id(), kind="k", queue="default", shop=f"{n % 7}", args={"n": n},
                fingerprint=str(n), unique=Unique(key=n.to_bytes(16, "big"), on_conflict="replace",
                states=("ready", "scheduled", "running", "retrying", "held")),
            )
            for n in order
        ]  # fmt: skip

    orders = (range(40), range(39, -1, -1))
    calls = [writer.put_all(jobs(orders[turn % 2])) for turn in range(10)]
    found = await asyncio.gather(*calls)
    verdicts = [one.verdict for call in found for one in call]
    assert verdicts.count(Verdict.CREATED) == 40
    assert verdicts.count(Verdict.MERGED) == 9 * 40
    aliases = await PostgresJobs(database).many(
        [UUID(bytes=row[0].bytes) for row in await database.fetch("select id from job_alias")]
    )
    assert len(aliases) == 9 * 40
    assert await service.fetch("select * from unique_claim") != []


async def test_a_newcomer_waits_for_who_is_ending_the_job_it_would_change(
    service: Any, database: postgres.Database
) -> None:
    wanted = said(unique={"key": "x", "on_conflict": "replace"})
    first = (await service.post("/v1/jobs", wanted)).body["id"]

    async def waits() -> bool:
        return bool(await service.fetch("select from pg_locks where not granted"))

    async with database.transaction() as connection:
        await connection.fetch("select cancel_jobs(array[$1::uuid])", first)
        asked = asyncio.create_task(service.post("/v1/jobs", {**wanted, "args": {"n": 2}}))
        await eventually(waits)
    second = await asked
    assert (second.status, second.body["args"]) == (201, {"n": 2})
    assert second.body["id"] != first
