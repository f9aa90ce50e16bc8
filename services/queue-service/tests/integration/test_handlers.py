"""What handlers are given by the worker, on a real Postgres: jobs they make, checkpoints, URLs of
strangers, and what becomes of those that do not stop."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from chassis import crypto, postgres
from chassis.web import health
from mainstay import handler
from mainstay.children import NewJob
from marketing import campaign
from marketing.handlers import HANDLERS as MARKETING
from queue_service import worker
from queue_service.loops import recycler
from queue_service.settings import WorkerSettings
from queue_service.store import running
from queue_service.store.engine import SETTINGS as PINNED
from testkit.signals import eventually

RETRY = '{"base_s": 0.01, "factor": 2.0, "max_s": 0.05, "jitter": 0.5}'
Start = Callable[..., Awaitable[web.AppRunner]]


@pytest_asyncio.fixture
async def begin(dsn: str, database: postgres.Database, tmp_path: Path) -> AsyncIterator[Start]:
    """Start a worker in this process; its `cleanup()` is its end."""
    await database.execute(
        "insert into queue (name, served_by, concurrency, max_attempts, timeout_s, retry) "
        "values ('work', 'worker', 4, 50, 30, $1::text::jsonb), "
        "('later', 'pull', 4, 5, 30, $1::text::jsonb)",
        RETRY,
    )
    private, _ = crypto.new_service_key()
    async with AsyncExitStack() as stack:

        async def start(*handlers: handler.Handler[Any], **settings: Any) -> web.AppRunner:
            given = {
                "database_url": dsn,
                "service_key": private,
                "service_keys_dir": tmp_path,
                "ratelimit_service_url": "http://127.0.0.1:9",
                "queue_poll_interval_s": 0.05,
                "drain_timeout_s": 1.0,
                **settings,
            }
            model = WorkerSettings.model_validate(given)
            app = worker.create_app(model, handlers=handler.registry(handlers))
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            return runner

        yield start


def of(call: Any, kind: str = "parent", **options: Any) -> handler.Handler[Any]:
    made: handler.Handler[Any] = handler.handler(kind, **options)(call)
    return made


async def put(service: Any, **said: Any) -> str:
    answer = await service.post("/v1/jobs", {"kind": "parent", "queue": "work", **said})
    assert answer.status == 201, answer.raw
    return str(answer.body["id"])


async def ended(service: Any, job_id: str) -> Any:
    found: list[Any] = []

    async def has_ended() -> bool:
        job = (await service.get(f"/v1/jobs/{job_id}")).body
        found[:] = [job]
        return job["state"] in ("completed", "failed", "cancelled")

    await eventually(has_ended, 20.0)
    return found[0]


async def test_what_a_job_makes_is_made_once_however_often_it_runs(
    begin: Start, service: Any
) -> None:
    async def call(args: Any, ctx: handler.Context) -> dict[str, Any]:
        one = await ctx.enqueue("child", {"n": ctx.job.attempt}, name="one", queue="later")
        many = [
            NewJob(name=f"row:{n}", kind="child", queue="later", shop="b.x") for n in range(700)
        ]
        made = await ctx.enqueue_many(many)
        if ctx.job.attempt < 3:
            raise RuntimeError("again")
        return {"one": str(one), "many": len(set(made))}

    await begin(of(call))
    job = await ended(service, await put(service, shop="a.x"))
    assert (job["state"], job["attempt"], job["result"]["many"]) == ("completed", 3, 700)
    one = (await service.get(f"/v1/jobs/{job['result']['one']}")).body
    assert (one["args"], one["shop"], one["state"]) == ({"n": 1}, "a.x", "ready")
    count = "select count(*) from any_job where kind = 'child'"
    assert (await service.fetch(count))[0][0] == 701


async def test_a_child_that_has_ended_is_not_made_again(begin: Start, service: Any) -> None:
    ran: list[str] = []
    again = asyncio.Event()

    async def call(args: Any, ctx: handler.Context) -> Any:
        made = await ctx.enqueue("child", name="one", queue="work")
        if ctx.job.attempt == 1:
            await again.wait()
            raise RuntimeError("again")
        return {"made": str(made)}

    async def child(args: Any, ctx: handler.Context) -> None:
        ran.append(str(ctx.job.id))

    await begin(of(call), of(child, "child"))
    parent = await put(service)
    await eventually(lambda: ran)
    await ended(service, ran[0])
    again.set()
    assert (await ended(service, parent))["result"] == {"made": ran[0]}
    assert len(ran) == 1


async def test_new_jobs_that_are_wrong_are_named_and_none_is_made(
    begin: Start, service: Any
) -> None:
    bad = [
        ({"queue": "nowhere"}, "queue: there is no such queue"),
        ({"args": {"a": "\x00"}}, "cannot be stored"),
        ({"args": {"a": float("nan")}}, "no JSON"),
        ({"args": {"a": "x" * 300_000}}, "bytes"),
        ({"priority": 11}, "/priority"),
        ({"tags": ["x" * 65]}, "/tags/0"),
    ]

    async def call(args: Any, ctx: handler.Context) -> dict[str, Any]:
        told: list[str] = []
        for said, _why in bad:
            wrong = NewJob(**{"name": "bad", "kind": "child", "queue": "later", **said})
            good = NewJob(name="good", kind="child", queue="later")
            with pytest.raises(handler.Refused) as caught:
                await ctx.enqueue_many([good, wrong])
            told.append(caught.value.jobs[1])
        return {"told": told}

    await begin(of(call))
    job = await ended(service, await put(service))
    for told, (_said, why) in zip(job["result"]["told"], bad, strict=True):
        assert why in told
    assert await service.count() == 1


async def test_a_later_attempt_reads_what_an_earlier_one_left(begin: Start, service: Any) -> None:
    async def call(args: Any, ctx: handler.Context) -> Any:
        left = await ctx.checkpoint()
        if left is not None:
            return left
        await ctx.progress({"at": 1})
        await ctx.progress({"at": 2})
        return handler.Snooze(0.0)

    await begin(of(call))
    job = await ended(service, await put(service))
    assert job["result"] == job["progress"] == {"at": 2}


async def test_how_many_wait_is_that_of_the_jobs_own_lane(begin: Start, service: Any) -> None:
    async def call(args: Any, ctx: handler.Context) -> Any:
        return {
            "own": await ctx.waiting("later"),
            "other": await ctx.waiting("later", shop="b.x"),
            "few": await ctx.waiting("later", limit=2),
            "none": await ctx.waiting("nowhere"),
        }

    for shop in ("a.x", "a.x", "a.x", "b.x"):
        await put(service, queue="later", shop=shop)
    await put(service, queue="later", shop="a.x", delay_s=60)
    await begin(of(call))
    job = await ended(service, await put(service, shop="a.x"))
    assert job["result"] == {"own": 3, "other": 1, "few": 2, "none": 0}


async def test_what_was_put_off_waits_too_but_not_what_is_to_run_later(
    begin: Start, service: Any
) -> None:
    """A campaign that is paced is held back by its messages that wait for their turn."""

    async def call(args: Any, ctx: handler.Context) -> Any:
        if args.get("is_limited"):
            return handler.Snooze(600.0)
        return {"all": await ctx.waiting("work"), "few": await ctx.waiting("work", limit=2)}

    await begin(of(call))
    limited = [await put(service, shop="a.x", args={"is_limited": True}) for _ in range(3)]
    await put(service, shop="b.x", args={"is_limited": True})
    await put(service, shop="a.x", delay_s=600)
    put_off = "select count(*) from queue_job where state = 'scheduled' and snoozes > 0"

    async def are_put_off() -> bool:
        return bool((await service.fetch(put_off))[0][0] == len(limited) + 1)

    await eventually(are_put_off)
    job = await ended(service, await put(service, shop="a.x"))
    assert job["result"] == {"all": 3, "few": 2}


async def test_counting_who_waits_costs_what_is_counted(
    service: Any, database: postgres.Database
) -> None:
    """Beside 50,000 that are to run later, and statistics that know nothing of them."""
    await put(service, queue="default", shop="a.x")
    await database.execute("alter table queue_job set (autovacuum_enabled = off)")
    for snoozes, rows in ((0, 50_000), (1, 3_000)):
        await database.execute(
            "insert into queue_job (id, lane, queue, kind, shop, state, priority, max_attempts,"
            " run_at, created_at, fingerprint, args, snoozes)"
            " select gen_random_uuid(), l.id, 'default', 'k', 'a.x', 'scheduled', 5, 5,"
            " now() + interval '1 hour', now(), 'f', '{}', $1"
            " from lane l, generate_series(1, $2::integer) where l.queue = 'default'",
            snoozes,
            rows,
        )
    lookups = running.PostgresLookups(database)
    assert await lookups.waiting("default", "a.x", limit=10_000) == 3_001
    assert await lookups.waiting("default", "a.x", limit=1_000) == 1_000
    async with database.connection() as connection:
        for limit, most in ((10_000, 3_500), (100, 300)):
            (row,) = await connection.fetch(
                f"explain (analyze, buffers, format json) {running.SQL.waiting}",
                "default",
                "a.x",
                limit,
            )
            plan = row[0][0]["Plan"]
            assert "Seq Scan on queue_job" not in json.dumps(plan)
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < most, plan


async def test_urls_of_strangers_lead_nowhere_inside(begin: Start, service: Any) -> None:
    async def call(args: Any, ctx: handler.Context) -> Any:
        refused = []
        for url in args["urls"]:
            try:
                async with ctx.outside.get(url):
                    pass
            except aiohttp.ClientError as error:
                refused.append(type(error).__name__)
        return {"refused": refused}

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    app = web.Application()
    app.router.add_get("/away", away)
    async with TestServer(app) as server:
        urls = [str(server.make_url("/away")), "http://169.254.169.254/", "http://[::1]:1/"]
        runner = await begin(of(call))
        job = await ended(service, await put(service, args={"urls": urls}))
        assert job["result"] == {"refused": ["ClientConnectorError"] * 3}
        await runner.cleanup()
        await begin(of(call), egress_allowed_networks="127.0.0.0/8,169.254.0.0/16")
        job = await ended(service, await put(service, args={"urls": urls[:1]}))
        assert job["result"] == {"refused": ["ClientConnectorError"]}, "a redirect gains nothing"


async def test_a_campaign_whose_workers_are_stopped_over_and_over_sends_each_row_once(
    begin: Start, service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane is full again and again, and whoever runs it is interrupted wherever it is."""
    monkeypatch.setattr(campaign, "CHUNK_ROWS", 20)
    monkeypatch.setattr(campaign, "ENOUGH_S", 0.05)
    count = 250
    file = tmp_path / "list.csv"
    people = "".join(f"+3069{12345678 + n},N{n}\n" for n in range(count))
    file.write_text(f"to,name\n{people}")
    app = web.Application()
    app.router.add_static("/", tmp_path)
    async with TestServer(app) as server:
        args = {
            "url": str(server.make_url("/list.csv")),
            "message": {"body": "Hi {{ name }}"},
            "queue": "later",
            "max_waiting": 100,
        }
        job_id = await put(service, kind="campaign.send", args=args, shop="a.x")
        made = "select count(*) from any_job where kind = 'sms.send'"
        seen = -1
        while (await service.get(f"/v1/jobs/{job_id}")).body["state"] != "completed":
            runner = await begin(*MARKETING, egress_allowed_networks="127.0.0.0/8",
                                 drain_timeout_s=0.5)  # fmt: skip

            async def is_further(before: int = seen) -> bool:
                job = (await service.get(f"/v1/jobs/{job_id}")).body
                assert job["state"] != "failed", job
                return job["state"] == "completed" or (await service.fetch(made))[0][0] > before

            await eventually(is_further, 10.0)
            await runner.cleanup()
            seen = (await service.fetch(made))[0][0]
            waiting = (await service.fetch(f"{made} and state = 'ready'"))[0][0]
            assert waiting <= 120
            await service.fetch(
                "update queue_job set state = 'held' where kind = 'sms.send' and state = 'ready'"
            )
    job = (await service.get(f"/v1/jobs/{job_id}")).body
    assert (job["result"]["rows"], job["result"]["enqueued"]) == (count, count)
    names = "select args ->> 'name', count(*) from any_job where kind = 'sms.send' group by 1"
    assert sorted(await service.fetch(names)) == sorted((f"N{n}", 1) for n in range(count))
    tagged = await service.get(f"/v1/jobs?tag=campaign:{job_id}&queue=later&limit=1")
    assert len(tagged.body["items"]) == 1


async def test_an_automation_waits_as_a_row_and_goes_on_after_a_stop(
    begin: Start, service: Any
) -> None:
    steps = [
        {"do": "send", "queue": "later", "args": {"body": "first"}},
        {"do": "wait", "for_s": 3600},
        {"do": "condition", "if": {"field": "cart.total", "op": "gt", "value": 10},
         "then": [{"do": "send", "queue": "later", "args": {"body": "second"}}]},
    ]  # fmt: skip
    data = {"to": "+306912345678", "cart": {"total": 20}}
    job_id = await put(service, kind="automation.run", args={"steps": steps, "data": data})
    runner = await begin(*MARKETING)

    async def waits() -> bool:
        return bool((await service.get(f"/v1/jobs/{job_id}")).body["state"] == "scheduled")

    await eventually(waits)
    await runner.cleanup()
    job = (await service.get(f"/v1/jobs/{job_id}")).body
    assert job["attempt"] == 0
    # As if the hour had passed.
    await service.fetch(
        "update queue_job set run_at = now(), progress = jsonb_set(progress, '{until}', $2) "
        "where id = $1",
        job_id,
        job["created_at"],
    )
    await begin(*MARKETING)
    job = await ended(service, job_id)
    sent = [(await service.get(f"/v1/jobs/{one}")).body for one in job["result"]["sent"]]
    assert [one["args"]["body"] for one in sent] == ["first", "second"]


async def _pages(connection: Any) -> int:
    """Pages that an empty-handed claim and a stager's pass look at, once their plans are made."""
    told = 0
    for call in (
        "select * from claim_jobs('work', gen_random_uuid(), 10, 10)",
        "select stage_jobs(1000)",
    ):
        for _ in range(3):
            rows = await connection.fetch(f"explain (analyze, buffers, format json) {call}")
        plan = rows[0][0][0]["Plan"]
        told += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return told


async def test_automations_that_wait_cost_nothing_but_rows(
    service: Any, dsn: str, begin: Start
) -> None:
    await put(service, shop="a.x")
    as_a_worker = await postgres.open_database(dsn, size=1, application="test", settings=PINNED)
    async with as_a_worker.connection() as connection:
        await connection.execute("delete from queue_job")
        before = await _pages(connection)
        await connection.execute(
            "insert into queue_job (id, lane, queue, kind, shop, state, priority, max_attempts,"
            " run_at, created_at, fingerprint, args)"
            " select gen_random_uuid(), l.id, 'work', 'automation.run', 'a.x', 'scheduled', 5, 5,"
            " now() + interval '30 days', now(), 'f', '{}'"
            " from lane l, generate_series(1, 20000) where l.queue = 'work'"
        )
        assert await _pages(connection) <= before + 10
    await as_a_worker.close()


async def test_a_plain_function_that_goes_on_is_abandoned_and_counted(
    begin: Start, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recycler.Recycler, "interval_s", 0.05)
    let_go = threading.Event()

    def stubborn(args: Any, ctx: handler.Context) -> None:
        let_go.wait(30)

    try:
        runner = await begin(of(stubborn, timeout_s=0.1), queue_abandoned_max=1)
        job = await ended(service, await put(service, max_attempts=1))
        assert job["errors"][-1]["type"] == "timeout"
        failed = runner.app[health.SUPERVISOR].failed
        await eventually(failed.is_set, 10.0)
    finally:
        let_go.set()


async def test_a_coroutine_that_refuses_to_stop_is_abandoned_and_its_job_ends(
    begin: Start, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recycler, "OVERDUE_S", 0.1)
    monkeypatch.setattr(recycler.Recycler, "interval_s", 0.05)
    let_go = asyncio.Event()

    async def stubborn(args: Any, ctx: handler.Context) -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    try:
        runner = await begin(of(stubborn, timeout_s=0.1), queue_abandoned_max=2)
        first = await ended(service, await put(service, max_attempts=1))
        assert first["errors"][-1]["type"] == "timeout"
        failed = runner.app[health.SUPERVISOR].failed
        assert not failed.is_set()
        await put(service, max_attempts=1)
        await eventually(failed.is_set)
    finally:
        let_go.set()


async def test_attempts_end_with_the_age_a_job_allows(begin: Start, service: Any) -> None:
    async def call(args: Any, ctx: handler.Context) -> None:
        raise RuntimeError("again")

    policy = {"base_s": 0.05, "factor": 1.0, "max_s": 0.05, "jitter": 0, "for_s": 1.0}
    await begin(of(call))
    job = await ended(service, await put(service, retry=policy, max_attempts=100))
    assert job["state"] == "failed"
    assert job["attempt"] < 50
    pulled = await put(service, queue="later", retry={"for_s": 0.001})
    (leased,) = (await service.post("/v1/queues/later:lease", {"max": 1})).body["jobs"]
    error = {"type": "boom", "message": "it broke"}
    outcome = {"id": pulled, "token": leased["lease"]["token"], "outcome": "failed", "error": error}
    assert (await service.post("/v1/leases:settle", {"outcomes": [outcome]})).status == 200
    assert (await ended(service, pulled))["state"] == "failed"
