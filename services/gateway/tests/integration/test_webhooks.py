"""Webhooks of Shopify at a gateway: kept before they are answered, whatever is away."""

import asyncio
import io
import time
from typing import Any
from uuid import UUID

import aio_pika
import asyncpg
import pytest
import pytest_asyncio

from chassis import postgres
from contracts import topology
from contracts.commands import ShopVerb, TellSessions
from gateway.__main__ import MIGRATIONS
from gateway.core.notices import Notice
from gateway.store.notices import Notices
from gateway.testing import OLD_SECRET, SECRET, sign, webhook
from testkit.faults import TcpProxy
from testkit.signals import eventually

from .test_bus import on_bus
from .test_enqueue import knows_queues, rows

BODY = b'{"id":9007199254740993,"note":"\xce\x93\xce\xb5\xce\xb9\xce\xac"}'
SHOP = "one.myshopify.com"
UNINSTALLED = {"Topic": "app/uninstalled"}


@pytest.fixture
def app() -> dict[str, str]:
    return {
        "shopify_api_key": "key",
        "shopify_api_secret": SECRET,
        "shopify_api_secret_old": OLD_SECRET,
    }


@pytest_asyncio.fixture
async def gateway(make_gateway: Any, app: dict[str, str]) -> Any:
    made = await make_gateway(**app)
    await knows_queues(made)
    return made


async def deliver(gateway: Any, body: bytes = BODY, **other: Any) -> tuple[int, Any, Any]:
    given = [*webhook(body, **other), ("Content-Type", "application/json")]
    found: tuple[int, Any, Any] = await gateway.tell(
        "POST", "/webhooks/shopify", key=None, data=io.BytesIO(body), headers=dict(given)
    )
    return found


async def waiting(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("select count(*) from notice"))
    finally:
        await connection.close()


async def test_a_delivery_becomes_one_job_however_often_it_comes(gateway: Any) -> None:
    status, body, said = await deliver(gateway)
    assert (status, body["status"], said["Mainstay-Road"]) == (200, "created", "direct")
    assert "Degraded" not in said
    status, again, said = await deliver(gateway, Triggered_At="2026-11-25T09:00:00Z")
    assert (status, again["status"], again["id"]) == (200, "existing", body["id"])
    assert said["Idempotent-Replay"] == "true"
    (job,) = gateway.owners.queue.jobs.values()
    assert (job["kind"], job["queue"], job["shop"]) == ("shopify.orders/create", "webhooks", SHOP)
    assert job["args"]["payload"] == {"id": 9007199254740993, "note": "Γειά"}
    assert gateway.owners.session.heard == []


async def test_concurrent_repeats_are_one_job(gateway: Any) -> None:
    found = await asyncio.gather(*(deliver(gateway) for _ in range(20)))
    assert [status for status, _, _ in found] == [200] * 20
    assert len(gateway.owners.queue.jobs) == 1


@pytest.mark.parametrize(
    ("body", "other", "status", "code"),
    [
        (BODY, {"Hmac_Sha256": "bm8="}, 401, "invalid_hmac"),
        (BODY, {"Hmac_Sha256": None}, 400, "invalid_webhook"),
        (BODY, {"Shop_Domain": "evil.example.com"}, 400, "invalid_webhook"),
        (BODY, {"Webhook_Id": None}, 400, "invalid_webhook"),
        (b"", {}, 400, "invalid_webhook"),
        (b"\xff\xfe", {}, 400, "malformed"),
        (b'{"a":1,"a":2}', {}, 400, "malformed"),
        (b'{"a":"\\u0000"}', {}, 422, "invalid"),
        (b'{"current":7}', {"Topic": "app/scopes_update"}, 400, "invalid_webhook"),
    ],
)
async def test_what_is_wrong_is_named_and_leaves_nothing(
    gateway: Any, body: bytes, other: Any, status: int, code: str
) -> None:
    found, problem, _ = await deliver(gateway, body, **other)
    assert (found, problem["code"]) == (status, code)
    assert not gateway.owners.queue.jobs
    assert not gateway.owners.session.heard
    assert await rows(gateway) + await waiting(gateway.dsn) == 0


async def test_both_secrets_sign_and_five_mebibytes_are_taken(gateway: Any) -> None:
    large = b'{"text":"%b"}' % (b"x" * (5 * 1024 * 1024 - 11))
    status, _, _ = await deliver(gateway, large, Hmac_Sha256=sign(large, OLD_SECRET))
    assert status == 200
    await eventually(lambda: len(gateway.owners.queue.jobs) == 1, 5.0)
    status, problem, _ = await deliver(gateway, large + b" ", Webhook_Id="w-2")
    assert (status, problem["code"]) == (413, "too_large")
    status, problem, _ = await gateway.tell("GET", "/webhooks/shopify", key=None)
    assert (status, problem["code"]) == (405, "method_not_allowed")


async def test_without_an_app_there_are_no_webhooks(make_gateway: Any) -> None:
    status, problem, _ = await deliver(await make_gateway())
    assert (status, problem["code"]) == (503, "shopify_not_configured")


async def test_a_delivery_is_counted_for_its_shop_after_its_signature(gateway: Any) -> None:
    limiter = gateway.owners.ratelimit
    assert (await deliver(gateway, Hmac_Sha256="bm8="))[0] == 401
    assert [each.policies for each in limiter.asked] == []
    limiter.refused.add("webhook-in")
    status, problem, said = await deliver(gateway)
    assert (status, problem["code"], said["Retry-After"]) == (429, "rate_limited", "2")
    (asked,) = limiter.asked
    assert (asked.policies, asked.subject.shop) == (["webhook-in"], SHOP)
    assert not gateway.owners.queue.jobs


async def test_a_frozen_queue_service_is_waited_for_a_quarter_of_a_second(gateway: Any) -> None:
    gateway.owners.queue.freeze()
    started = time.monotonic()
    status, body, said = await deliver(gateway)
    assert time.monotonic() - started < 1.0
    assert (status, body["status"], said["Mainstay-Road"]) == (200, "accepted", "spool")
    assert said["Degraded"] == "webhooks;spool"
    assert (await deliver(gateway))[1]["id"] == body["id"]
    gateway.owners.queue.thaw()
    await eventually(lambda: body["id"] in gateway.owners.queue.jobs, 8.0)
    assert len(gateway.owners.queue.jobs) == 1


async def test_a_queue_that_was_deleted_costs_no_webhook(gateway: Any) -> None:
    gateway.owners.queue.queues.discard("webhooks")
    status, problem, said = await deliver(gateway)
    assert (status, problem["code"]) == (503, "enqueue_unavailable")
    assert said["Retry-After"]
    gateway.owners.queue.queues.add("webhooks")
    assert (await deliver(gateway))[0] == 200


async def test_sessions_are_told_before_the_answer_and_on_every_repeat(gateway: Any) -> None:
    told = []
    for _ in range(2):
        assert (await deliver(gateway, **UNINSTALLED))[0] == 200
        told.append(list(gateway.owners.session.heard))
    once = (SHOP, "uninstalled", {"before": "2026-11-25T09:59:58.123456Z"})
    assert told == [[once], [once, once]]


async def test_what_session_service_does_not_hear_is_told_when_it_is_back(gateway: Any) -> None:
    await gateway.owners.session.stop()
    status, _, said = await deliver(gateway, **UNINSTALLED)
    assert (status, said["Mainstay-Road"], said["Degraded"]) == (200, "direct", "webhooks;spool")
    assert (await deliver(gateway, **UNINSTALLED))[0] == 200
    assert await waiting(gateway.dsn) == 1
    await gateway.owners.session.start()
    await eventually(lambda: len(gateway.owners.session.heard) == 1, 8.0)

    async def is_empty() -> bool:
        return await waiting(gateway.dsn) == 0

    await eventually(is_empty, 5.0)


async def test_a_slow_session_service_is_neither_waited_for_nor_taken_for_a_broken_one(
    gateway: Any,
) -> None:
    gateway.owners.session.delay_s = 0.6
    started = time.monotonic()
    for number in range(6):
        status, _, said = await deliver(gateway, Webhook_Id=f"slow-{number}", **UNINSTALLED)
        assert (status, said["Degraded"]) == (200, "webhooks;spool")
    assert time.monotonic() - started < 6.0
    await eventually(lambda: len(gateway.owners.session.heard) >= 6, 8.0)
    system = (await gateway.tell("GET", "/v1/system"))[1]
    assert system["services"]["session-service"]["circuit"] == "closed"


async def test_a_restart_of_the_gateway_forgets_nothing_that_it_answered(
    make_gateway: Any, app: dict[str, str]
) -> None:
    first = await make_gateway(**app)
    await knows_queues(first)
    await first.owners.session.stop()
    await first.owners.queue.stop()
    status, body, _ = await deliver(first, **UNINSTALLED)
    assert (status, body["status"]) == (200, "accepted")
    await first.stop()
    await first.owners.session.start()
    await first.owners.queue.start()
    await make_gateway(database_url=first.dsn, **app)
    await eventually(lambda: body["id"] in first.owners.queue.jobs, 8.0)
    await eventually(lambda: len(first.owners.session.heard) == 1, 8.0)


async def test_the_bus_takes_both_when_no_table_and_no_owner_is_there(
    make_gateway: Any, make_database: Any, amqp_url: str, app: dict[str, str]
) -> None:
    dsn = await make_database(MIGRATIONS)
    async with TcpProxy.before(dsn) as proxy:
        gateway = await make_gateway(database_url=proxy.url(dsn), amqp_url=amqp_url, **app)
        await knows_queues(gateway)
        await on_bus(gateway)
        await gateway.owners.session.stop()
        await gateway.owners.queue.stop()
        await proxy.refuses()
        status, _, said = await deliver(gateway, **UNINSTALLED)
        assert (status, said["Mainstay-Road"]) == (200, "bus")
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel()
    message = await (await channel.get_queue(topology.TELL_SESSIONS.name)).get()
    assert message is not None
    command = TellSessions.model_validate_json(message.body)
    assert (command.shop, command.verb) == (SHOP, ShopVerb.UNINSTALLED)
    await connection.close()


async def test_with_every_road_shut_shopify_is_to_come_again(
    make_gateway: Any, make_database: Any, app: dict[str, str]
) -> None:
    dsn = await make_database(MIGRATIONS)
    async with TcpProxy.before(dsn) as proxy:
        gateway = await make_gateway(database_url=proxy.url(dsn), **app)
        await knows_queues(gateway)
        await gateway.owners.session.stop()
        await proxy.refuses()
        status, problem, _ = await deliver(gateway, **UNINSTALLED)
        assert (status, problem["retryable"]) == (503, True)
        assert (await deliver(gateway))[0] == 200


async def test_a_notice_that_its_owner_refuses_holds_up_no_other(make_database: Any) -> None:
    database = await postgres.open_database(
        await make_database(MIGRATIONS), size=2, application="test"
    )
    table = Notices(database)
    made = [
        Notice(id=identifier, owner="session-service", shop=SHOP, verb=verb, said={"before": "x"})
        for identifier, verb in (
            (UUID(int=1), ShopVerb.REDACT),
            (UUID(int=2), ShopVerb.UNINSTALLED),
        )
    ]
    await table.keep(made)
    await table.keep(made)
    assert await table.claim(10) == made
    assert await table.claim(10) == []
    await table.later([made[0].id], seconds=60)
    await table.done([made[1].id])
    assert (await table.count())[0] == 1
    await database.close()
