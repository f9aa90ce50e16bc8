"""Events are rows until somebody has vouched for them; one relay leads, none is lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from chassis import crypto, http_client, outbox, postgres
from chassis.kernel import errors, ids
from testkit.databases import Databases

TABLES = """
create table outbox (
    id bigint generated always as identity primary key, event_id uuid not null unique,
    type text not null, envelope jsonb not null, created_at timestamptz not null default now());
create table leader (name text primary key, holder uuid not null, until timestamptz not null)
"""


@pytest_asyncio.fixture
async def database(make_database: Databases, tmp_path: Path) -> AsyncIterator[postgres.Database]:
    (tmp_path / "0001_outbox.sql").write_text(TABLES)
    dsn = await make_database(tmp_path)
    made = await postgres.open_database(dsn, size=4, application="test")
    yield made
    await made.close()


class Sink:
    """Keeps what it is sent, unless told not to."""

    def __init__(self, road: str = "bus") -> None:
        self.road = road
        self.trouble: Exception | None = None
        self.sent: list[int] = []

    async def send(self, envelopes: Sequence[dict[str, Any]]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.sent += [envelope["n"] for envelope in envelopes]


def event(n: int, event_id: UUID | None = None) -> tuple[UUID, str, dict[str, Any]]:
    return event_id or ids.new_id(), "thing.made.v1", {"n": n, "name": "Ελένη"}


async def put(database: postgres.Database, *numbers: int) -> None:
    async with database.transaction() as connection:
        await outbox.put(connection, [event(n) for n in numbers])


async def left(database: postgres.Database) -> int:
    return int(await database.fetchval("select count(*) from outbox"))


async def test_what_was_sent_is_gone_and_in_order(database: postgres.Database) -> None:
    sink = Sink()
    relay = outbox.Relay(database=database, sinks=[sink])
    await put(database, 1, 2)
    await put(database, 3)
    assert await relay.run_once() is False
    assert sink.sent == [1, 2, 3]
    assert await left(database) == 0
    assert await relay.run_once() is False


async def test_an_event_of_a_transaction_that_failed_was_never_there(
    database: postgres.Database,
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await outbox.put(connection, [event(1)])
            raise ZeroDivisionError
    assert await left(database) == 0


async def test_the_same_event_twice_is_one_and_none_is_none(database: postgres.Database) -> None:
    same = ids.new_id()
    async with database.transaction() as connection:
        await outbox.put(connection, [event(1, same)])
        await outbox.put(connection, [event(1, same), event(2)])
        await outbox.put(connection, [])
    assert await left(database) == 2


async def test_more_than_a_chunk_says_that_there_is_more(
    database: postgres.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "CHUNK", 2)
    sink = Sink()
    relay = outbox.Relay(database=database, sinks=[sink])
    await put(database, 1, 2, 3)
    assert await relay.run_once() is True
    assert await relay.run_once() is False
    assert sink.sent == [1, 2, 3]


@pytest.mark.parametrize("trouble", [errors.Unavailable("away"), errors.Ambiguous("lost")])
async def test_the_next_road_is_taken_when_one_is_shut(
    database: postgres.Database, trouble: Exception
) -> None:
    bus, http = Sink("bus"), Sink("http")
    bus.trouble = trouble
    await put(database, 1)
    await outbox.Relay(database=database, sinks=[bus, http]).run_once()
    assert (bus.sent, http.sent) == ([], [1])
    assert await left(database) == 0


@pytest.mark.parametrize("trouble", [errors.Unavailable("away"), RuntimeError("a bug")])
async def test_with_no_road_open_the_events_stay(
    database: postgres.Database, trouble: Exception
) -> None:
    sink = Sink()
    sink.trouble = trouble
    relay = outbox.Relay(database=database, sinks=[sink])
    await put(database, 1)
    with pytest.raises(type(trouble)):
        await relay.run_once()
    assert await left(database) == 1
    sink.trouble = None
    await relay.run_once()
    assert sink.sent == [1]


async def test_a_row_committed_late_with_an_early_number_is_not_skipped(
    database: postgres.Database,
) -> None:
    sink = Sink()
    relay = outbox.Relay(database=database, sinks=[sink])
    async with database.transaction() as late:
        await outbox.put(late, [event(1)])
        await put(database, 2)
        await relay.run_once()
        assert sink.sent == [2]
    await relay.run_once()
    assert sink.sent == [2, 1]


async def test_one_leads_and_another_takes_over_when_its_lease_ends(
    database: postgres.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Sink(), Sink()
    leading = outbox.Relay(database=database, sinks=[first])
    waiting = outbox.Relay(database=database, sinks=[second])
    await leading.run_once()
    await put(database, 1)
    assert await waiting.run_once() is False
    await leading.run_once()
    assert (first.sent, second.sent) == ([1], [])
    await database.execute("update leader set until = clock_timestamp() - interval '1 s'")
    await put(database, 2)
    await waiting.run_once()
    await put(database, 3)
    await leading.run_once()
    assert (first.sent, second.sent) == ([1], [2])


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, None), (503, errors.Unavailable), (401, errors.Unauthenticated), (422, errors.Invalid)],
)
async def test_events_go_straight_to_a_subscriber_that_must_say_yes(
    status: int, kind: type[errors.Fault] | None
) -> None:
    taken: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        taken.append(await request.json())
        return web.json_response({}, status=status)

    app = web.Application()
    app.router.add_post("/internal/v1/events", take)
    minter = crypto.Minter(service="queue-service", private_key_pem=crypto.new_service_key()[0])
    async with TestServer(app) as server, http_client.open_session() as session:
        client = http_client.ServiceClient(
            name="gateway", base_url=str(server.make_url("/")), session=session, minter=minter
        )
        sink = outbox.HttpSink(client, path="/internal/v1/events")
        with pytest.raises(kind) if kind else contextlib.nullcontext():
            await sink.send([{"n": 1}])
    assert taken == [{"events": [{"n": 1}]}]


async def test_of_several_at_once_one_leads(database: postgres.Database) -> None:
    sinks = [Sink() for _ in range(4)]
    relays = [outbox.Relay(database=database, sinks=[sink]) for sink in sinks]
    await put(database, *range(10))
    await asyncio.gather(*(relay.run_once() for relay in relays))
    assert sorted(n for sink in sinks for n in sink.sent) == list(range(10))
    assert sum(bool(sink.sent) for sink in sinks) == 1
