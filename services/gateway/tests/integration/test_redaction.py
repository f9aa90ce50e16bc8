"""A shop that is to be forgotten, at the gateway: here, and at every other owner."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from chassis import crypto, postgres
from chassis.kernel import ids
from contracts import events
from gateway.__main__ import MIGRATIONS
from gateway.core import parcels
from gateway.core.ports import Road
from gateway.store.accepted import Accepted
from gateway.store.events import Events
from testkit.signals import eventually

SHOP, OTHER = "one.myshopify.com", "two.myshopify.com"
SECRET = "Eleni +306900000183"


def event(
    kind: str, shop: str, data: dict[str, Any], event_id: UUID | None = None
) -> dict[str, Any]:
    made = events.Envelope(
        id=event_id or uuid4(),
        source="session-service",
        type=kind,
        time=datetime.now(UTC),
        shop=shop,
        data=data,
    )
    return made.model_dump(mode="json")


def redact(event_id: UUID, before: datetime) -> dict[str, Any]:
    return event(events.SHOP_REDACT, SHOP, {"shop": SHOP, "before": before.isoformat()}, event_id)


async def told(gateway: Any, *envelopes: Any) -> Any:
    minter = crypto.Minter(
        service="session-service", private_key_pem=gateway.owners.keys.private["session-service"]
    )
    status, answer, _ = await gateway.tell(
        "POST",
        "/internal/v1/events",
        key=minter.mint("gateway"),
        json={"events": list(envelopes)},
    )
    assert status == 200, answer
    return answer


async def test_without_a_bus_every_owner_is_told_even_if_it_is_away_now(gateway: Any) -> None:
    queue, limits = gateway.owners.queue, gateway.owners.ratelimit
    await queue.stop()
    event_id, before = uuid4(), datetime.now(UTC)
    for _ in range(2):
        await told(gateway, redact(event_id, before))
    await eventually(lambda: len(limits.heard) == 1, 8.0)
    await queue.start()
    await eventually(lambda: len(queue.heard) == 1, 8.0)
    said = {"before": before.isoformat().replace("+00:00", "Z"), "event_id": str(event_id)}
    assert queue.heard == limits.heard == [(SHOP, "redact", said)]
    assert gateway.owners.session.heard == []


def parcel(shop: str) -> parcels.Parcel:
    return parcels.wrap(
        {"kind": "k", "queue": "default", "shop": shop, "args": {"to": SECRET}, "tags": [SECRET]},
        id=ids.new_id(),
        queue="default",
        fingerprint="f",
        now=datetime.now(UTC),
    )


@pytest.mark.parametrize("later_s", [-60, 60])
async def test_what_is_kept_of_the_shop_goes_but_not_that_a_promise_was_made(
    make_database: Any, later_s: int
) -> None:
    dsn = await make_database(MIGRATIONS)
    database = await postgres.open_database(dsn, size=2, application="test")
    table, log = Accepted(database), Events(database)
    kept = [parcel(SHOP), parcel(OTHER)]
    await table.keep(kept, road=Road.SPOOL, is_whole=True)
    await log.append([event("job.failed.v1", shop, {"note": SECRET}) for shop in (SHOP, OTHER)])
    event_id = uuid4()
    await log.append([redact(event_id, datetime.now(UTC) + timedelta(seconds=later_s))])

    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "select shop, count(*) from event_log where envelope::text ~ 'Eleni' group by shop"
    )
    promised = await connection.fetch("select shop, command::text from accepted order by shop")
    await connection.close()
    is_forgotten = later_s > 0
    assert {row["shop"] for row in rows} == ({OTHER} if is_forgotten else {SHOP, OTHER})
    assert [SECRET in row["command"] for row in promised] == [not is_forgotten, True]
    assert [each.id for each in await table.claim(10)] == [each.id for each in kept]
    await database.close()
