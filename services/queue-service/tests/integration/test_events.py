"""Events in and out: the progress of batches, and shops that are to be forgotten."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aio_pika
import pytest

from chassis import postgres
from chassis.consumer import Verdict
from chassis.kernel import ids
from contracts import events, topology
from contracts.sessions import Redacted
from queue_service.api import keys
from queue_service.consumers.redact import RedactShops
from queue_service.loops.batches import BatchFolder
from queue_service.store.batch_chores import PostgresBatchChores
from queue_service.store.enqueue import EnqueueWriter
from testkit.signals import eventually

SHOP = "greek-olives.myshopify.com"
OTHER = "other.myshopify.com"
SECRET = "Ελένη +306900000183"


async def told(service: Any) -> Sequence[events.Envelope]:
    rows = await service.fetch("select envelope from outbox order by id")
    return [events.Envelope.model_validate(row["envelope"]) for row in rows]


@pytest.fixture
def folder(database: postgres.Database, writer: EnqueueWriter) -> BatchFolder:
    return BatchFolder(PostgresBatchChores(database=database, writer=writer))


async def test_the_progress_of_a_batch_is_told_once_a_second(
    database: postgres.Database, folder: BatchFolder
) -> None:
    batch_id, quiet = ids.new_id(), ids.new_id()
    for one in (batch_id, quiet):
        await database.execute(
            "insert into batch (id, name, shop, queue, kind, defaults, fingerprint, paused, total) "
            "values ($1, 'sale', $2, 'q', 'k', '{}', 'f', false, 9)", one, SHOP,
        )  # fmt: skip

    async def end(completed: int, failed: int) -> Sequence[events.Envelope]:
        delta = "insert into batch_delta (batch_id, completed, failed, cancelled)"
        await database.execute(f"{delta} values ($1, $2, $3, 0)", batch_id, completed, failed)
        # Two at once: what has ended is counted once.
        await asyncio.gather(folder.run_once(), folder.run_once())
        return await told(database)

    (first,) = await end(3, 1)
    assert (first.type, first.subject, first.shop) == (
        events.BATCH_PROGRESS, str(batch_id), SHOP
    )  # fmt: skip
    said = events.BatchProgress.model_validate(first.data)
    assert (said.batch_id, said.name, said.shop) == (batch_id, "sale", SHOP)
    assert (said.total, said.completed, said.failed, said.cancelled) == (9, 3, 1, 0)
    assert len(await end(1, 0)) == 1
    await database.execute("update batch set told_at = told_at - interval '2 seconds'")
    await folder.run_once()
    assert len(await told(database)) == 1, "nothing has ended since"
    (_, second) = await end(1, 0)
    assert events.BatchProgress.model_validate(second.data).completed == 5


def redact(before: datetime, event_id: UUID | None = None) -> bytes:
    event = events.Envelope(
        id=event_id or ids.new_id(),
        source="session-service",
        type=events.SHOP_REDACT,
        time=before,
        shop=SHOP,
        data=events.ShopRedact(shop=SHOP, before=before).model_dump(mode="json"),
    )
    return event.model_dump_json().encode()


async def all_swept(service: Any) -> bool:
    return not await service.fetch("select from job_sweep where finished_at is null")


async def stored(service: Any, shop: str) -> str:
    """All that is kept of a shop, wherever."""
    found = [
        await service.fetch(f"select to_jsonb(t) from {table} t where {which}", shop)
        for table, which in (
            ("queue_job", "shop = $1"), ("queue_job_done", "shop = $1"),
            ("queue_job_failed", "shop = $1"), ("schedule", "shop = $1"), ("batch", "shop = $1"),
            ("batch_rejected", "batch_id in (select id from batch where shop = $1)"),
            ("outbox", "envelope ->> 'shop' = $1"),
        )
    ]  # fmt: skip
    return json.dumps([row[0] for part in found for row in part], ensure_ascii=False, default=str)


async def of_shop(service: Any, shop: str) -> str:
    """A schedule, an open batch with a bad row, a failed job and one that waits."""
    job = {"kind": "k", "args": {"to": SECRET}, "shop": shop}
    schedule = {"cron": "* * * * *", "timezone": "UTC", "job": job}
    put = await service.call("PUT", f"/v1/schedules/of.{shop}", schedule)
    assert put.status == 201, put.body
    common = {"defaults": {"args": {"to": SECRET}}, "on_complete": {**job, "queue": "default"}}
    batch = await service.post("/v1/batches", {"name": SECRET, "kind": "k", "shop": shop, **common})
    path = f"/v1/batches/{batch.body['id']}"
    await service.post(f"{path}/items", [{"args": {"n": 1}}, {"args": 7}])
    failed, waiting = [(await service.post("/v1/jobs", job)).body["id"] for _ in range(2)]
    await service.settle(failed, state="failed")
    return str(waiting)


async def tell_by_http(service: Any, before: datetime, event_id: UUID) -> None:
    said = Redacted(before=before, event_id=event_id).model_dump(mode="json")
    path = f"/internal/v1/shops/{SHOP}:redact"
    answer = await service.post(path, said, scopes=frozenset({"service"}))
    assert answer.status == 204, answer.raw


async def test_a_shop_is_forgotten_once_by_whichever_road_it_is_told(service: Any) -> None:
    waiting, other = await of_shop(service, SHOP), await of_shop(service, OTHER)
    before, event_id = datetime.now(UTC) + timedelta(seconds=1), ids.new_id()
    await tell_by_http(service, before, event_id)
    assert await RedactShops(service.app[keys.VERBS])(redact(before, event_id)) is Verdict.DONE
    await eventually(lambda: all_swept(service))
    assert (await service.fetch("select count(*) from job_sweep"))[0][0] == 1
    assert SECRET not in await stored(service, SHOP)
    assert (await service.get(f"/v1/jobs/{waiting}")).body["state"] == "cancelled"
    assert (await service.get(f"/v1/jobs/{other}")).body["args"] == {"to": SECRET}


async def test_a_promise_of_before_that_comes_after_is_a_job_of_which_nothing_is_kept(
    service: Any,
) -> None:
    before = datetime.now(UTC)
    await tell_by_http(service, before, ids.new_id())

    def promised(shop: str, at: datetime) -> dict[str, Any]:
        job = {"kind": "k", "shop": shop, "args": {"to": SECRET}, "tags": [SECRET]}
        return {
            "id": str(ids.new_id()),
            "accepted_at": at.isoformat(),
            "fingerprint": "f",
            "job": job,
        }

    late = [
        promised(SHOP, before),
        promised(SHOP, before + timedelta(seconds=1)),
        promised(OTHER, before),
    ]
    answer = await service.post(
        "/internal/v1/jobs:accept",
        {"promised": True, "jobs": late},
        scopes=frozenset({"service"}),
    )
    found = [line["status"] for line in answer.body["results"]]
    assert found == ["rejected", "created", "created"]
    read = await service.get(f"/v1/jobs/{late[0]['id']}")
    assert (read.body["state"], read.body["args"], read.body["tags"]) == ("rejected", {}, [])


async def test_a_shop_is_forgotten_when_an_event_says_so_with_all_it_has(service: Any) -> None:
    handle = RedactShops(service.app[keys.VERBS])
    waiting, other = await of_shop(service, SHOP), await of_shop(service, OTHER)
    event = redact(datetime.now(UTC) + timedelta(seconds=1))
    assert [await handle(event) for _ in range(2)] == [Verdict.DONE] * 2
    await eventually(lambda: all_swept(service))
    assert (await service.fetch("select count(*) from job_sweep"))[0][0] == 1
    assert SECRET not in await stored(service, SHOP)
    assert SECRET in await stored(service, OTHER)
    assert (await service.get(f"/v1/jobs/{waiting}")).body["state"] == "cancelled"
    assert (await service.get(f"/v1/jobs/{other}")).body["state"] == "ready"
    assert [row[0] for row in await service.fetch("select name from schedule")] == [f"of.{OTHER}"]
    states = "select shop, cancelled_at is not null from batch order by shop"
    assert await service.fetch(states) == [(SHOP, True), (OTHER, False)]


async def test_what_a_shop_does_after_it_has_come_back_stays(service: Any) -> None:
    before = datetime.now(UTC) - timedelta(seconds=30)
    waiting = await of_shop(service, SHOP)
    handle = RedactShops(service.app[keys.VERBS])
    assert await handle(redact(before)) is Verdict.DONE
    await eventually(lambda: all_swept(service))
    assert (await service.get(f"/v1/jobs/{waiting}")).body["args"] == {"to": SECRET}
    assert len(await service.fetch("select from schedule")) == 1


async def test_an_event_that_cannot_be_read_is_no_order(service: Any) -> None:
    handle = RedactShops(service.app[keys.VERBS])
    for body in (b"{", redact(datetime.now(UTC)).replace(b'"before"', b'"after"')):
        assert await handle(body) is Verdict.INVALID
    assert not await service.fetch("select from job_sweep")


async def test_the_event_comes_over_the_bus(start: Any, amqp_url: str) -> None:
    service = await start(amqp_url=amqp_url)
    job = {"kind": "k", "args": {"to": SECRET}, "shop": SHOP}
    assert (await service.post("/v1/jobs", job)).status == 201
    connection = await aio_pika.connect(amqp_url)

    event = redact(datetime.now(UTC) + timedelta(seconds=1))

    async def is_forgotten() -> bool:
        """Sent again until its queue is declared and bound: twice is once."""
        channel = await connection.channel()
        try:
            exchange = await channel.get_exchange(topology.EVENTS, ensure=True)
            await exchange.publish(aio_pika.Message(event), events.SHOP_REDACT)
        except aio_pika.exceptions.ChannelClosed:
            return False  # not declared yet
        return SECRET not in await stored(service, SHOP)

    await eventually(is_forgotten, within_s=30)
    await connection.close()
