"""Kinds that run behind a URL: registered through the door, delivered by a worker."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from chassis import crypto, postgres
from contracts import handlers as wire
from mainstay import handler
from queue_service import worker
from queue_service.core.push import signature
from queue_service.settings import WorkerSettings
from testkit.signals import eventually

KEYS = f"k1:{crypto.new_key()}"
LOOPBACK = "127.0.0.0/8"
RETRY = {"base_s": 0.01, "factor": 1.0, "max_s": 0.01, "jitter": 0.0}
Work = Callable[..., Awaitable[web.AppRunner]]


class Site:
    """Answers as its jobs' args say; keeps what it was sent."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self.bodies: dict[str, str] = {}
        self.open = asyncio.Event()

    async def serve(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self.asked.append((dict(request.headers), raw))
        say = json.loads(raw)["args"]
        if say.get("hang"):
            await self.open.wait()
        return web.Response(
            status=say.get("status", 200),
            body=self.bodies.get(say.get("say"), '{"done": true}').encode(),
            headers=say.get("headers", {}),
        )


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", made.serve)
    async with TestServer(app, host="127.0.0.1") as server:
        made.url = str(server.make_url("/hook"))
        yield made
        made.open.set()


@pytest_asyncio.fixture
async def service(start: Any) -> Any:
    """Nobody is installed here, so every kind may have a URL."""
    return await start(handlers={}, queue_keys=KEYS, egress_allowed_networks=LOOPBACK)


@pytest_asyncio.fixture
async def work(dsn: str, tmp_path: Path) -> AsyncIterator[Work]:
    private, _ = crypto.new_service_key()
    async with AsyncExitStack() as stack:

        async def begin(*handlers: handler.Handler[Any], **settings: Any) -> web.AppRunner:
            given = {
                "database_url": dsn,
                "service_key": private,
                "service_keys_dir": tmp_path,
                "ratelimit_service_url": "http://127.0.0.1:9",
                "queue_poll_interval_s": 0.1,
                "drain_timeout_s": 1.0,
                "queue_keys": KEYS,
                "egress_allowed_networks": LOOPBACK,
                **settings,
            }
            model = WorkerSettings.model_validate(given)
            runner = web.AppRunner(worker.create_app(model, handlers=handler.registry(handlers)))
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            return runner

        yield begin


async def register(service: Any, site: Site, **more: Any) -> Any:
    return await service.call("PUT", "/v1/handlers/order.paid", {"url": site.url, **more})


async def enqueue(service: Any, **say: Any) -> str:
    job = {"kind": "order.paid", "args": say, "retry": RETRY, "shop": "olives.myshopify.com"}
    return str((await service.post("/v1/jobs", {**job, "max_attempts": 2})).body["id"])


async def reaches(service: Any, job_id: str, *states: str) -> Any:
    async def there() -> Any:
        job = (await service.get(f"/v1/jobs/{job_id}")).body
        return job if job["state"] in states else None

    return await eventually(there, 10.0)


async def test_a_handler_is_registered_read_changed_and_deleted(service: Any, site: Site) -> None:
    made = await register(service, site, timeout_s=3)
    assert made.status == 201
    assert len(wire.secret_bytes(made.body["secret"])) == 32
    told = await service.get("/v1/handlers/order.paid")
    assert (told.status, "secret" in told.body, told.body["timeout_s"]) == (200, False, 3)
    again = await register(service, site, max_in_flight=3)
    assert (again.status, "secret" in again.body, again.body["max_in_flight"]) == (200, False, 3)
    assert (await service.call("DELETE", "/v1/handlers/order.paid")).status == 204
    assert (await service.call("DELETE", "/v1/handlers/order.paid")).status == 404
    assert (await service.get("/v1/handlers/order.paid")).status == 404


async def test_a_secret_lies_sealed_and_nowhere_in_clear(
    service: Any, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = (await register(service, site)).body["secret"]
    (row,) = await service.fetch("select * from handler")
    assert row["secret"].startswith("enc:v1:k1:")
    assert secret.removeprefix("whsec_") not in repr(dict(row)) + capsys.readouterr().out
    assert crypto.Keyring(KEYS).open(row["secret"], "handler", "order.paid") == secret


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"url": "http://shop.example/hook\n"}, "/url"),
    ({"url": "http://10.0.0.1/"}, "/url"),
    ({"url": "https://169.254.169.254/"}, "/url"),
    ({"url": "https://me:pw@shop.example/"}, "/url"),
    ({"url": "https://shop.example/", "secret": "whsec_c2hvcnQ="}, "/secret"),
    ({"url": "https://shop.example/", "timeout_s": 0.5}, "/timeout_s"),
    ({"url": "https://shop.example/", "max_in_flight": 0}, "/max_in_flight"),
    ({}, "/url"),
)


async def test_what_is_wrong_with_a_handler_is_named_and_stores_nothing(service: Any) -> None:
    for said, pointer in WRONG:
        refused = await service.call("PUT", "/v1/handlers/order.paid", said)
        assert (refused.status, refused.pointers) == (422, [pointer])
        assert "c2hvcnQ=" not in refused.raw.decode()
    assert (await service.get("/v1/handlers/order.paid")).status == 404


async def test_who_may_register_what(start: Any, service: Any, site: Site) -> None:
    own = await service.call(
        "PUT", "/v1/handlers/k", {"url": site.url}, shop="olives.myshopify.com"
    )
    assert own.status == 403
    reader = await service.get("/v1/handlers/k", scopes=frozenset({"jobs:read"}))
    assert (reader.status, reader.body["code"]) == (403, "missing_scope")
    taken = await start(queue_keys=KEYS, egress_allowed_networks=LOOPBACK)
    conflict = await taken.call("PUT", "/v1/handlers/sms.send", {"url": site.url})
    assert conflict.status == 409
    keyless = await start(handlers={}, egress_allowed_networks=LOOPBACK)
    unsealed = await keyless.call("PUT", "/v1/handlers/k", {"url": site.url})
    assert (unsealed.status, unsealed.body["code"]) == (503, "push_not_configured")


async def test_a_job_is_delivered_signed_and_its_answer_is_its_result(
    service: Any, site: Site, work: Work
) -> None:
    secret = (await register(service, site)).body["secret"]
    await work()
    job_id = await enqueue(service, order=7, name="Ελιά")
    job = await reaches(service, job_id, "completed")
    assert (job["result"], job["attempt"]) == ({"done": True}, 1)
    ((headers, raw),) = site.asked
    told = wire.Delivery.model_validate_json(raw)
    assert (str(told.id), told.kind, told.shop) == (job_id, "order.paid", "olives.myshopify.com")
    assert (told.attempt, told.args) == (1, {"order": 7, "name": "Ελιά"})
    assert headers["webhook-id"] == job_id
    assert headers["Accept-Encoding"] == "identity"
    assert headers["webhook-signature"] == signature(
        wire.secret_bytes(secret),
        message_id=job_id,
        timestamp=int(headers["webhook-timestamp"]),
        body=raw,
    )


async def test_a_handler_that_is_registered_later_runs_what_comes_then(
    service: Any, site: Site, work: Work
) -> None:
    """Without waiting for the next look at the table."""
    runner = await work()
    roster = runner.app[worker.PUSH_ROSTER]  # type: ignore[index]
    roster.interval_s = 60.0
    await register(service, site)
    registry = runner.app[worker.HANDLERS]  # type: ignore[index]
    await eventually(lambda: "order.paid" in registry)
    await reaches(service, await enqueue(service), "completed")
    await service.call("DELETE", "/v1/handlers/order.paid")
    await eventually(lambda: "order.paid" not in registry)


async def test_a_bad_answer_is_a_failed_attempt_and_the_last_one_ends_the_job(
    service: Any, site: Site, work: Work
) -> None:
    await register(service, site)
    await work()
    job = await reaches(service, await enqueue(service, status=500), "failed")
    assert [(one["type"], one["message"]) for one in job["errors"]] == [
        ("push_failed", "the handler answered 500")
    ] * 2
    moved = await enqueue(service, status=307, headers={"Location": "/other"})
    assert "redirects" in (await reaches(service, moved, "failed"))["errors"][0]["message"]
    assert len(site.asked) == 4


async def test_an_answer_that_is_no_json_we_keep_completes_without_a_result(
    service: Any, site: Site, work: Work
) -> None:
    await register(service, site)
    await work()
    said = ("", "done", '{"a": 1} x', '{"a": "\\u0000"}', "[NaN]", '"' + "x" * 300_000 + '"')
    sizes = [f"{len(one)}" for one in said]
    site.bodies = dict(zip(sizes, said, strict=True))
    for job_id in [await enqueue(service, say=size) for size in sizes]:
        job = await reaches(service, job_id, "completed", "failed")
        assert (job["state"], job["result"]) == ("completed", None)


async def test_a_job_that_is_cancelled_while_it_is_delivered_ends_cancelled(
    service: Any, site: Site, work: Work
) -> None:
    await register(service, site)
    await work()
    job_id = await enqueue(service, hang=True)
    await eventually(lambda: site.asked)
    await service.post(f"/v1/jobs/{job_id}:cancel")
    assert (await reaches(service, job_id, "cancelled"))["attempt"] == 1


async def test_later_is_a_snooze_that_spends_no_attempt(
    service: Any, site: Site, work: Work
) -> None:
    await register(service, site)
    await work()
    job_id = await enqueue(service, status=503, headers={"Retry-After": "3600"})
    job = await reaches(service, job_id, "scheduled")
    assert (job["attempt"], job["errors"]) == (0, [])


async def test_gone_disables_the_handler_and_its_jobs_wait_until_it_is_back(
    service: Any, site: Site, work: Work
) -> None:
    await register(service, site)
    await work()
    first = await enqueue(service, status=410)
    job = await reaches(service, first, "scheduled")
    assert (job["attempt"], job["errors"]) == (0, [])
    assert (await service.get("/v1/handlers/order.paid")).body["disabled_at"] is not None
    await reaches(service, await enqueue(service), "scheduled")
    assert len(site.asked) == 1
    assert (await register(service, site)).body["disabled_at"] is None
    await service.fetch("update queue_job set run_at = now() where args = '{}'")

    async def called() -> bool:
        return len(site.asked) == 2

    await eventually(called, 10.0)


async def test_an_address_that_may_not_be_called_is_not(
    service: Any, site: Site, work: Work, database: postgres.Database
) -> None:
    """Registered where it was allowed, and run where it is not."""
    await register(service, site)
    await work(egress_allowed_networks="")
    job = await reaches(service, await enqueue(service), "failed")
    assert "may not be called" in job["errors"][0]["message"]
    assert "127.0.0.1" not in json.dumps(job["errors"])
    assert site.asked == []


async def test_a_handler_here_comes_before_a_url(service: Any, site: Site, work: Work) -> None:
    async def here(args: Any, ctx: handler.Context) -> dict[str, str]:
        return {"ran": "here"}

    await register(service, site)
    await work(handler.handler("order.paid")(here))
    job = await reaches(service, await enqueue(service), "completed")
    assert (job["result"], site.asked) == ({"ran": "here"}, [])
    assert UUID(job["id"])


async def test_a_secret_whose_key_is_gone_keeps_jobs_waiting(
    service: Any, site: Site, work: Work
) -> None:
    await register(service, site)
    await work(queue_keys=f"k9:{crypto.new_key()}")
    job = await reaches(service, await enqueue(service), "scheduled")
    assert (job["attempt"], job["errors"], site.asked) == (0, [], [])
