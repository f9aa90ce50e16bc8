"""Schedules, through the door and by the database's clock."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio

from chassis import postgres
from contracts import schedules as wire
from queue_service.core.attempts import Settlement, Status, Verb
from queue_service.core.queues import fresh
from queue_service.core.schedules import NewSchedule
from queue_service.loops.scheduler import Scheduler
from queue_service.store.engine import EngineStore
from queue_service.store.enqueue import EnqueueWriter
from queue_service.store.queues import PostgresQueues
from queue_service.store.schedules import PostgresFires, PostgresSchedules
from testkit.signals import eventually

SHOP, OTHER = "olives.myshopify.com", "honey.myshopify.com"
DAILY = {"cron": "0 9 * * *", "timezone": "Europe/Athens", "job": {"kind": "k"}}


async def put(service: Any, name: str = "daily", *, shop: str | None = None, **more: Any) -> Any:
    return await service.call("PUT", f"/v1/schedules/{name}", {**DAILY, **more}, shop=shop)


async def test_a_schedule_is_put_read_listed_and_deleted(service: Any) -> None:
    made = await put(service)
    assert made.status == 201
    told = wire.Schedule.model_validate(made.body)
    assert (told.missed, told.overlap, told.enabled) == ("last", "allow", True)
    assert told.next_fire_at is not None
    assert told.next_fire_at.minute == 0
    assert told.job == {"kind": "k"}
    assert (await put(service)).status == 200
    assert (await service.get("/v1/schedules/daily")).body["cron"] == "0 9 * * *"
    await put(service, "other")
    page = await service.get("/v1/schedules?limit=1")
    assert [one["name"] for one in page.body["items"]] == ["daily"]
    rest = await service.get(f"/v1/schedules?limit=1&cursor={page.body['next_cursor']}")
    assert [one["name"] for one in rest.body["items"]] == ["other"]
    assert rest.body["next_cursor"] is None
    assert (await service.call("DELETE", "/v1/schedules/daily")).status == 204
    assert (await service.call("DELETE", "/v1/schedules/daily")).status == 404
    assert (await service.get("/v1/schedules/daily")).status == 404
    assert (await service.get("/v1/schedules/No Name".replace(" ", "%20"))).status == 404


WRONG: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"cron": "0 0 30 2 *"}, "/cron", "invalid"),
    ({"cron": "* * * * * *"}, "/cron", "invalid"),
    ({"timezone": "Europe/Atlantis"}, "/timezone", "invalid"),
    ({"job": {"kind": "k", "queue": "nowhere"}}, "/job/queue", "unknown_queue"),
    ({"job": {"kind": "k", "run_at": "2030-01-01T00:00:00Z"}}, "/job", "invalid"),
    ({"job": {"kind": "k", "id": "0198c7a4-7b0a-7000-8000-000000000000"}}, "/job", "invalid"),
    ({"job": {"kind": "k", "args": {"a": "x" * 270_000}}}, "/job/args", "invalid"),
    ({"missed": "some"}, "/missed", "invalid"),
    ({"what": 1}, "/what", "invalid"),
)


async def test_what_is_wrong_with_a_schedule_is_named_and_stores_nothing(service: Any) -> None:
    for more, pointer, code in WRONG:
        refused = await put(service, **more)
        assert (refused.status, refused.pointers, refused.body["code"]) == (422, [pointer], code)
    assert await service.fetch("select 1 from schedule") == []


async def test_a_shop_s_key_sees_and_changes_that_shop_s_schedules_alone(service: Any) -> None:
    assert (await put(service, "mine", shop=SHOP)).status == 201
    stored = await service.fetch("select shop from schedule")
    assert [row["shop"] for row in stored] == [SHOP]
    stolen = await put(service, "mine", shop=OTHER)
    assert (stolen.status, stolen.body["code"]) == (409, "id_taken")
    assert (await service.get("/v1/schedules/mine", shop=OTHER)).status == 404
    assert (await service.get("/v1/schedules", shop=OTHER)).body["items"] == []
    assert (await service.call("DELETE", "/v1/schedules/mine", shop=OTHER)).status == 404
    foreign = await put(service, "more", shop=SHOP, job={"kind": "k", "shop": OTHER})
    assert (foreign.status, foreign.pointers) == (403, ["/job/shop"])
    assert (await service.call("DELETE", "/v1/schedules/mine", shop=SHOP)).status == 204


async def test_a_schedule_that_is_due_makes_its_job_once_and_moves_on(service: Any) -> None:
    await put(service, shop=SHOP, job={"kind": "k", "args": {"a": 1}, "tags": ["t"]})
    await service.fetch("update schedule set next_fire_at = clock_timestamp() - interval '1 s'")

    async def fired() -> Any:
        return (await service.get("/v1/jobs?kind=k")).body["items"]

    (job,) = await eventually(fired)
    assert (job["shop"], job["args"], job["tags"], job["state"]) == (SHOP, {"a": 1}, ["t"], "ready")
    assert UUID(job["id"]).version == 5
    told = (await service.get("/v1/schedules/daily")).body
    assert told["last_job_id"] == job["id"]
    assert told["next_fire_at"] > told["last_fire_at"]


async def test_a_disabled_schedule_fires_no_more(service: Any) -> None:
    await put(service, enabled=False)
    assert (await service.get("/v1/schedules/daily")).body["next_fire_at"] is None
    await put(service)
    assert (await service.get("/v1/schedules/daily")).body["next_fire_at"] is not None


# Below, nobody but the test fires. Days, so that no test meets the change of one.


def new(name: str = "s", **more: Any) -> NewSchedule:
    plain = {"shop": None, "cron": "0 0 * * *", "timezone": "UTC", "job": {"kind": "k"}}
    policies = {"missed": "last", "overlap": "allow", "enabled": True}
    return NewSchedule(name=name, **{**plain, **policies, **more})


async def begin(database: postgres.Database, schedule: NewSchedule, *, late_d: int) -> None:
    store = PostgresSchedules(database)
    await store.put(schedule, await store.now(), shop=None)
    await make_due(database, schedule.name, late_d=late_d)


async def make_due(database: postgres.Database, name: str, *, late_d: int) -> None:
    await database.execute(
        "update schedule set next_fire_at = date_trunc('day', clock_timestamp()) - $2::interval "
        "where name = $1", name, timedelta(days=late_d),
    )  # fmt: skip


async def jobs(database: postgres.Database) -> int:
    return int(await database.fetchval("select count(*) from any_job"))


async def end_all(database: postgres.Database) -> None:
    rows = await database.fetch("update queue_job set state = 'running' returning id, lease_no")
    ends = [Settlement(id=row["id"], lease_no=row["lease_no"], verb=Verb.COMPLETED) for row in rows]
    assert set(await EngineStore(database).settle(ends)) == {Status.SETTLED}


@pytest_asyncio.fixture
async def fires(database: postgres.Database, writer: EnqueueWriter) -> PostgresFires:
    await PostgresQueues(database).create(fresh("default"))
    return PostgresFires(database=database, writer=writer)


async def test_putting_it_again_forgets_no_fire_that_is_due(
    database: postgres.Database, fires: PostgresFires
) -> None:
    store = PostgresSchedules(database)
    await begin(database, new(), late_d=5)
    due = (await store.page(shop=None, after="", limit=1))[0].next_fire_at
    later = await store.now() + timedelta(hours=1)
    await store.put(new(missed="all"), later, shop=None)
    assert (await store.page(shop=None, after="", limit=1))[0].next_fire_at == due
    await store.put(new(cron="0 9 * * *"), later, shop=None)
    assert (await store.page(shop=None, after="", limit=1))[0].next_fire_at == later


async def test_many_who_fire_at_once_make_each_job_once(
    database: postgres.Database, fires: PostgresFires
) -> None:
    for number in range(30):
        await begin(database, new(f"s{number:02}", missed="all"), late_d=9)
    loops = [Scheduler(fires) for _ in range(4)]
    await asyncio.gather(*(loop.run_once() for loop in loops for _ in range(2)))
    assert await jobs(database) == 300
    moved = "select count(*) from schedule where next_fire_at > clock_timestamp()"
    assert await database.fetchval(moved) == 30


async def test_a_process_that_is_frozen_over_one_schedule_holds_up_no_other(
    database: postgres.Database, fires: PostgresFires
) -> None:
    await begin(database, new("frozen"), late_d=2)
    await begin(database, new("free"), late_d=1)
    async with database.transaction() as connection:
        await connection.execute("select from schedule where name = 'frozen' for update")
        assert await fires.fire(limit=10) == 1
    assert await jobs(database) == 1
    assert await fires.fire(limit=10) == 1
    assert await jobs(database) == 2


async def test_a_fire_that_comes_again_makes_no_second_job_even_when_the_first_has_ended(
    database: postgres.Database, fires: PostgresFires
) -> None:
    await begin(database, new(), late_d=0)
    for _ in range(2):
        assert await fires.fire(limit=10) == 1
        assert await jobs(database) == 1
        await make_due(database, "s", late_d=0)
    await end_all(database)
    assert await fires.fire(limit=10) == 1
    assert await jobs(database) == 1


async def test_what_was_missed_is_made_up_for_by_policy(
    database: postgres.Database, fires: PostgresFires
) -> None:
    for missed, at, made in (("skip", "0 0 1 1 *", 0), ("last", "0 0 * * *", 1),
                             ("all", "0 0 * * *", 61)):  # fmt: skip
        await begin(database, new(missed, missed=missed, cron=at), late_d=60)
        before = await jobs(database)
        assert await fires.fire(limit=10) == 1
        assert await jobs(database) - before == made
    assert await database.fetchval("select count(*) from queue_job where state = 'ready'") == 62


async def test_with_overlap_skip_nothing_comes_while_the_last_job_lives(
    database: postgres.Database, fires: PostgresFires
) -> None:
    await begin(database, new(overlap="skip", cron="0 0 1 1 *"), late_d=3)
    await fires.fire(limit=10)
    await make_due(database, "s", late_d=2)
    assert await fires.fire(limit=10) == 1
    assert await jobs(database) == 1
    await end_all(database)
    await make_due(database, "s", late_d=1)
    await fires.fire(limit=10)
    assert await jobs(database) == 2


async def test_one_schedule_that_cannot_be_read_or_stored_keeps_no_other_from_firing(
    database: postgres.Database, fires: PostgresFires
) -> None:
    await begin(database, new("a", cron="no cron"), late_d=9)
    await begin(database, new("b", job={"kind": "k", "queue": "gone"}), late_d=8)
    await begin(database, new("c"), late_d=1)
    assert await fires.fire(limit=10) == 3
    rows = await database.fetch("select queue, state from any_job order by queue")
    assert [tuple(row) for row in rows] == [("default", "ready"), ("gone", "rejected")]
    rests = "select name from schedule where next_fire_at is null"
    assert [row["name"] for row in await database.fetch(rests)] == ["a"]
    assert await fires.fire(limit=10) == 0
