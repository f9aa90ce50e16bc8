"""What Shopify says of a shop: late, repeated, out of order."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import orjson
import pytest
import pytest_asyncio

from contracts import commands, events, topology
from testkit.faults import TcpProxy
from testkit.shopify.apps import settings
from testkit.shopify.server import MockShopify
from testkit.signals import eventually

SHOP, OTHER = "one.myshopify.com", "two.myshopify.com"
OFFLINE, ONLINE = f"offline_{SHOP}", f"{SHOP}_7"
SERVICE = frozenset({"service"})


@pytest_asyncio.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database, timeout=10)
    yield connection
    await connection.close(timeout=5)


async def put(service: Any, session_id: str, token: str, scope: str = "read_orders") -> int:
    shop = OTHER if OTHER in session_id else SHOP
    document = {
        "id": session_id,
        "shop": shop,
        "isOnline": session_id == ONLINE,
        "state": "",
        "scope": scope,
        "accessToken": token,
    }
    if session_id == ONLINE:
        document["onlineAccessInfo"] = {"associated_user": {"id": 7}}
    answer = await service.call("PUT", f"/v1/sessions/{session_id}", document)
    assert answer.status == 200, answer.body
    return int(answer.body["version"])


async def installed(service: Any) -> None:
    for session_id in (OFFLINE, ONLINE, f"offline_{OTHER}"):
        await put(service, session_id, f"shpat_of_{session_id}")


async def tell(service: Any, verb: str, said: Any, shop: str = SHOP) -> Any:
    return await service.call("POST", f"/internal/v1/shops/{shop}:{verb}", said, scopes=SERVICE)


async def there(service: Any) -> set[str]:
    found = set()
    for session_id in (OFFLINE, ONLINE, f"offline_{OTHER}"):
        if (await service.call("GET", f"/v1/sessions/{session_id}")).status == 200:
            found.add(session_id)
    return found


async def told(connection: asyncpg.Connection, kind: str) -> list[Any]:
    rows = await connection.fetch("select envelope from outbox where type = $1 order by id", kind)
    return [events.Envelope.model_validate_json(row["envelope"]) for row in rows]


def now() -> str:
    return datetime.now(UTC).isoformat()


async def test_an_uninstallation_ends_every_session_of_the_shop_and_of_no_other(
    service: Any, connection: asyncpg.Connection
) -> None:
    await installed(service)
    assert await there(service) == {OFFLINE, ONLINE, f"offline_{OTHER}"}
    before = now()
    for _ in range(2):
        assert (await tell(service, "uninstalled", {"before": before})).status == 204
    assert await there(service) == {f"offline_{OTHER}"}
    said = [
        events.SessionChanged.model_validate(each.data)
        for each in await told(connection, events.SESSION_REVOKED)
    ]
    assert sorted((each.session_id, each.reason) for each in said) == [
        (OFFLINE, "uninstalled"),
        (ONLINE, "uninstalled"),
    ]


async def test_an_installation_that_overtook_its_uninstallation_stays(service: Any) -> None:
    await installed(service)
    before = now()
    await put(service, OFFLINE, "shpat_of_the_next_installation")
    assert (await tell(service, "uninstalled", {"before": before})).status == 204
    assert await there(service) == {OFFLINE, f"offline_{OTHER}"}
    session = await service.call("GET", f"/v1/sessions/{OFFLINE}")
    assert session.body["accessToken"] == "shpat_of_the_next_installation"


async def test_the_same_with_grants_and_within_one_second(start: Any, shopify: MockShopify) -> None:
    service = await start(**settings(shopify))

    async def exchange() -> str:
        said = {"session_token": shopify.session_token(SHOP), "force": True}
        answer = await service.post("/v1/token-exchange", said)
        assert answer.status == 200, answer.raw
        return str(answer.body["access_token"])

    gone = await exchange()
    left = shopify.webhooks.uninstall(SHOP)
    shopify.install(SHOP)
    stays = await exchange()
    assert gone != stays
    assert (await tell(service, "uninstalled", {"before": left.triggered_at})).status == 204
    token = await service.get(f"/v1/shops/{SHOP}/token")
    assert (token.status, token.body.get("access_token")) == (200, stays)
    left = shopify.webhooks.uninstall(SHOP)
    assert (await tell(service, "uninstalled", {"before": left.triggered_at})).status == 204
    assert (await service.get(f"/v1/shops/{SHOP}/token")).body["code"] == "session_not_found"


async def test_no_replica_answers_with_what_was_uninstalled_for_longer_than_two_seconds(
    start: Any, redis_url: str
) -> None:
    one, other = await start(redis_url=redis_url), await start(redis_url=redis_url)
    await installed(one)
    assert (await other.call("GET", f"/v1/sessions/{OFFLINE}")).status == 200
    await tell(one, "uninstalled", {"before": now()})
    assert (await one.call("GET", f"/v1/sessions/{OFFLINE}")).status == 404

    async def is_gone() -> bool:
        return bool((await other.call("GET", f"/v1/sessions/{OFFLINE}")).status == 404)

    await eventually(is_gone, within_s=3.0)


async def test_scopes_are_those_that_were_told_last_whatever_came_last(
    service: Any, connection: asyncpg.Connection
) -> None:
    await installed(service)
    first, second = datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=1)
    for scopes, at in (
        (["read_orders", "write_products"], second),
        (["read_nothing"], first),
        (["read_orders", "write_products"], second),
    ):
        said = {"current": scopes, "at": at.isoformat()}
        assert (await tell(service, "scopes-updated", said)).status == 204
    offline = await service.call("GET", f"/v1/sessions/{OFFLINE}")
    assert offline.body["scope"] == "read_orders,write_products"
    assert (await service.call("GET", f"/v1/sessions/{ONLINE}")).body["scope"] == "read_orders"
    (event,) = await told(connection, events.SESSION_SCOPES_CHANGED)
    said = events.SessionChanged.model_validate(event.data)
    assert (said.session_id, said.scope) == (OFFLINE, "read_orders,write_products")
    assert f'"{said.version}"' == offline.headers["ETag"]


async def test_scopes_that_are_told_again_unchanged_still_end_older_news(service: Any) -> None:
    await installed(service)
    first, second = datetime.now(UTC), datetime.now(UTC) + timedelta(seconds=1)
    for scopes, at in ((["read_orders"], second), (["read_all_orders"], first)):
        await tell(service, "scopes-updated", {"current": scopes, "at": at.isoformat()})
    assert (await service.call("GET", f"/v1/sessions/{OFFLINE}")).body["scope"] == "read_orders"


async def test_scopes_of_an_installation_before_are_not_those_of_this_one(service: Any) -> None:
    before = now()
    await installed(service)
    await tell(service, "scopes-updated", {"current": ["read_all_orders"], "at": before})
    assert (await service.call("GET", f"/v1/sessions/{OFFLINE}")).body["scope"] == "read_orders"


async def test_a_shop_is_forgotten_with_its_history_and_everybody_is_told_under_one_id(
    service: Any, connection: asyncpg.Connection
) -> None:
    await installed(service)
    await connection.execute("select record_event('stored', $1, $2, null, 1)", OFFLINE, SHOP)
    event_id, before = uuid4(), datetime.now(UTC) + timedelta(milliseconds=1)
    said = {"before": before.isoformat(), "event_id": str(event_id)}
    await put(service, f"offline_{OTHER}", "shpat_other")
    await asyncio.gather(*(tell(service, "redact", said) for _ in range(3)))
    assert await there(service) == {f"offline_{OTHER}"}
    for table in ("shopify_session", "token_event"):
        left = await connection.fetchval(f"select count(*) from {table} where shop = $1", SHOP)
        assert left == 0, table
    (event,) = await told(connection, events.SHOP_REDACT)
    assert (event.id, event.shop) == (event_id, SHOP)
    assert events.ShopRedact.model_validate(event.data).before == before


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("uninstalled", {}),
        ("uninstalled", {"before": "yesterday"}),
        ("uninstalled", {"before": "2026-11-25T10:00:00"}),
        ("scopes-updated", {"current": "read_orders", "at": "2026-11-25T10:00:00Z"}),
        ("redact", {"before": "2026-11-25T10:00:00Z", "event_id": "1"}),
    ],
)
async def test_what_cannot_be_read_changes_nothing(service: Any, verb: str, said: Any) -> None:
    await installed(service)
    assert (await tell(service, verb, said)).status == 422
    assert len(await there(service)) == 3


async def test_only_services_may_say_it(service: Any) -> None:
    answer = await service.call(
        "POST",
        f"/internal/v1/shops/{SHOP}:uninstalled",
        {"before": now()},
        scopes=frozenset({"sessions:write"}),
    )
    assert (answer.status, answer.body["code"]) == (403, "missing_scope")


async def test_what_the_bus_kept_meanwhile_is_done_once_the_record_answers(
    start: Any, database: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    async with TcpProxy.before(database) as proxy:
        service = await start(database_url=proxy.url(database), amqp_url=amqp_url)
        await installed(service)
        await eventually(lambda: _queue_is_there(amqp_url), within_s=10)
        await proxy.refuses()
        for said in ({"before": now()}, {"nonsense": True}):
            await publish(amqp_url, said)
        await proxy.passes()

        async def is_gone() -> bool:
            return await connection.fetchval("select count(*) from shopify_session") == 1

        await eventually(is_gone, within_s=15)


async def _queue_is_there(url: str) -> bool:
    bus = await aio_pika.connect(url)
    async with bus, bus.channel() as channel:
        try:
            await channel.get_queue(topology.TELL_SESSIONS.name)
        except aio_pika.exceptions.ChannelClosed:
            return False
    return True


async def publish(url: str, said: Any) -> None:
    told = {
        "type": commands.TELL_SESSIONS,
        "shop": SHOP,
        "verb": "uninstalled",
        "said": said,
    }
    bus = await aio_pika.connect(url)
    async with bus, bus.channel() as channel:
        exchange = await channel.get_exchange(topology.COMMANDS)
        message = aio_pika.Message(orjson.dumps(told), delivery_mode=2)
        await exchange.publish(message, routing_key=commands.TELL_SESSIONS)
