"""A shop that is to be forgotten."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
import pytest
import pytest_asyncio

from contracts import events, topology
from contracts.sessions import Redacted
from ratelimit_service.app import DATABASE
from testkit.service import Served
from testkit.signals import eventually

SHOP, OTHER = "one.myshopify.com", "one.myshopify.community"
SHARED = ["192.0.2.0/24", OTHER]


@pytest_asyncio.fixture
async def database(service: Any) -> AsyncIterator[asyncpg.Connection]:
    async with service.app[DATABASE].connection() as connection:
        yield connection


async def put(service: Any, path: str, said: Any) -> None:
    reply = await service.call("PUT", path, said)
    assert reply.status == 200, reply.raw


async def set_up(service: Any, database: asyncpg.Connection) -> None:
    """Everything that can be kept of a shop, of two shops."""
    await put(service, "/plans/gold", {"policies": {"api": {"rate": "50/s", "burst": 500}}})
    listed = {"items": [{"subject": each} for each in (*SHARED, "ONE.myshopify.com")]}
    await put(service, "/lists/allow", listed)
    for shop in (SHOP, OTHER):
        await put(service, f"/overrides/{shop}/api", {"burst": 7, "reason": f"{shop} has a sale"})
        await put(service, f"/shops/{shop}/plan", {"plan": "gold"})
        await database.execute(
            "insert into usage_minute (minute, shop, policy, allowed)"
            " values (date_trunc('minute', now()), $1, 'api', 3)",
            shop,
        )
        await database.execute(
            "insert into learned (policy, shop, rate) values ('shopify-gql', $1, '9/s')", shop
        )


async def redact(service: Any, event_id: UUID, shop: str = SHOP) -> Any:
    said = Redacted(before=datetime.now(UTC), event_id=event_id).model_dump(mode="json")
    return await tell(service, shop, said)


async def tell(service: Any, shop: str, said: Any) -> Any:
    """By a path that is not below those of the others."""
    path = f"/internal/v1/shops/{shop}:redact"
    return await Served.call(service, "POST", path, said, scopes=frozenset({"service"}))


async def mentions(database: asyncpg.Connection, shop: str) -> dict[str, int]:
    """How many rows of each table name the shop, but for those without content."""
    found = {}
    for table in ("configuration", "usage_minute", "learned", "audit", "outbox"):
        text = f"select count(*) from {table} t where to_jsonb(t)::text ilike $1"
        if table == "configuration":
            text += " and document is not null"
        found[table] = await database.fetchval(text, f'%"{shop}%')
    return found


async def test_what_was_kept_of_a_shop_goes_and_of_its_neighbour_nothing(
    service: Any, database: asyncpg.Connection
) -> None:
    await set_up(service, database)
    before = await mentions(database, OTHER)
    assert all(count for table, count in before.items() if table != "outbox"), before
    assert (await redact(service, uuid4())).status == 204
    assert not any((await mentions(database, f"{SHOP}/")).values())
    assert not any((await mentions(database, f'{SHOP}"')).values())
    assert await mentions(database, OTHER) == before
    for path in (f"/overrides/{SHOP}/api", f"/shops/{SHOP}/plan"):
        assert (await service.call("GET", path)).status == 404
    listed = await service.call("GET", "/lists/allow")
    assert [each["subject"] for each in listed.body["items"]] == SHARED
    limits = (await service.check("api", subject={"shop": SHOP, "ip": "192.0.2.1"}))["limits"]
    assert [each["limit"] for each in limits] in ([], [100])


async def test_a_repeat_takes_nothing_from_who_came_back(
    service: Any, database: asyncpg.Connection
) -> None:
    await set_up(service, database)
    event_id = uuid4()
    await redact(service, event_id)
    await put(service, f"/overrides/{SHOP}/api", {"burst": 9})
    await put(service, "/lists/deny", {"items": [{"subject": SHOP}]})
    assert (await redact(service, event_id)).status == 204
    assert (await service.call("GET", f"/overrides/{SHOP}/api")).status == 200
    assert len((await service.call("GET", "/lists/deny")).body["items"]) == 1


async def test_what_a_shop_owes_to_its_limits_is_not_forgiven(
    service: Any, database: asyncpg.Connection
) -> None:
    await put(service, "/policies/mine", {"key": "shop", "rate": "1/h", "burst": 2})
    subject = {"subject": {"shop": SHOP}}
    for _ in range(2):
        assert (await service.check("mine", **subject))["allowed"]
    await redact(service, uuid4())
    assert not (await service.check("mine", **subject))["allowed"]


@pytest.mark.parametrize("said", [{}, {"before": "2026-11-25T10:00:00Z", "event_id": "x"}])
async def test_what_cannot_be_read_forgets_nothing(
    service: Any, database: asyncpg.Connection, said: Any
) -> None:
    await set_up(service, database)
    assert (await tell(service, SHOP, said)).status == 422
    assert (await service.call("GET", f"/overrides/{SHOP}/api")).status == 200


async def test_the_bus_tells_of_it_too(start: Any, amqp_url: str) -> None:
    service = await start(amqp_url=amqp_url)
    async with service.app[DATABASE].connection() as database:
        await set_up(service, database)
    event = events.Envelope(
        id=uuid4(),
        source="session-service",
        type=events.SHOP_REDACT,
        time=datetime.now(UTC),
        shop=SHOP,
        data={"shop": SHOP, "before": datetime.now(UTC).isoformat()},
    )
    bus = await aio_pika.connect(amqp_url)

    async def arrived() -> bool:
        """Sent again until its queue is declared and bound: twice is once."""
        channel = await bus.channel()
        try:
            exchange = await channel.get_exchange(topology.EVENTS, ensure=True)
            message = aio_pika.Message(event.model_dump_json().encode())
            await exchange.publish(message, events.SHOP_REDACT, mandatory=False)
        except aio_pika.exceptions.ChannelClosed:
            return False  # not declared yet
        reply = await service.call("GET", f"/overrides/{SHOP}/api")
        return bool(reply.status == 404)

    async with bus:
        await eventually(arrived, within_s=15)
    assert (await service.call("GET", f"/overrides/{OTHER}/api")).status == 200
