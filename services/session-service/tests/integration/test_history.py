"""What happened to tokens is told in the transaction of the change, and in none that failed."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from contracts import events
from session_service.core import cleanup
from session_service.core.audit import Change, Kind
from session_service.store import audit

SHOP = "greek-olives.myshopify.com"
REFRESHED = Change(
    kind=Kind.REFRESHED,
    session_id=f"offline_{SHOP}",
    shop=SHOP,
    user_id=None,
    version=7,
    grant="refresh",
)


@pytest_asyncio.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database, timeout=10)
    yield connection
    await connection.close(timeout=5)


async def count(connection: asyncpg.Connection) -> tuple[int, int]:
    """(rows of the history, events that wait)"""
    row = await connection.fetchrow(
        "select (select count(*) from token_event), (select count(*) from outbox)"
    )
    return row[0], row[1]


async def test_a_change_is_a_row_and_an_event_of_the_contract(
    connection: asyncpg.Connection,
) -> None:
    async with connection.transaction():
        await audit.tell(connection, REFRESHED)
    envelope = events.Envelope.model_validate_json(
        await connection.fetchval("select envelope from outbox")
    )
    assert (envelope.type, envelope.shop, envelope.subject) == (
        events.SESSION_REFRESHED,
        SHOP,
        REFRESHED.session_id,
    )
    said = events.SessionChanged.model_validate(envelope.data)
    assert (said.session_id, said.version, said.grant) == (REFRESHED.session_id, 7, "refresh")
    assert await count(connection) == (1, 1)


async def test_what_is_rolled_back_was_never_told(connection: asyncpg.Connection) -> None:
    with pytest.raises(ZeroDivisionError):
        async with connection.transaction():
            await audit.tell(connection, REFRESHED)
            raise ZeroDivisionError
    assert await count(connection) == (0, 0)


@pytest.mark.parametrize("kind", Kind)
async def test_every_kind_that_is_an_event_is_one_of_the_contract(
    connection: asyncpg.Connection, kind: Kind
) -> None:
    await connection.execute("select record_event($1, 'a', 'b', 1, 2)", kind)
    types = [row["type"] for row in await connection.fetch("select type from outbox")]
    known = {value for name, value in vars(events).items() if name.startswith("SESSION_")}
    assert types == [name for name in [f"session.{kind}.v1"] if name in known]


async def test_the_history_of_a_shop_comes_in_pages_the_newest_first(
    service: Any, connection: asyncpg.Connection
) -> None:
    for number in range(5):
        await connection.execute(
            "select record_event('refreshed', 'a', $1, null, $2)", SHOP, number
        )
    await connection.execute("select record_event('refreshed', 'a', 'other', null, 9)")
    page = f"/v1/shops/{SHOP.upper()}/token-events?limit=3"
    first = await service.call("GET", page)
    assert [item["version"] for item in first.body["items"]] == [4, 3, 2]
    second = await service.call("GET", f"{page}&cursor={first.body['next_cursor']}")
    assert [item["version"] for item in second.body["items"]] == [1, 0]
    assert second.body["next_cursor"] is None
    for cursor in ("WyJhIl0", "WzBd", "WzFlMzBd", "nothing"):
        wrong = await service.call("GET", f"{page}&cursor={cursor}")
        assert (wrong.status, wrong.body["errors"][0]["pointer"]) == (422, "/cursor")


async def test_the_history_of_another_shop_is_nobodys_business(service: Any) -> None:
    answer = await service.call("GET", f"/v1/shops/{SHOP}/token-events", shop="other.example")
    assert (answer.status, answer.body["code"]) == (403, "other_shop")


async def test_history_older_than_ninety_days_goes_with_the_cleanup(
    service: Any, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "CHUNK", 2)
    await connection.execute(
        """insert into token_event (shop, session_id, kind, at)
           select $1, 'a', 'stored', now() - make_interval(days => d)
           from unnest(array[89, 91, 91, 91, 300]) as d""",
        SHOP,
    )
    await service.call("POST", "/v1/maintenance/cleanup", scopes=frozenset({"admin"}))
    assert await connection.fetchval("select count(*) from token_event") == 1


async def test_what_callers_store_and_delete_is_told_once(service: Any) -> None:
    session = {"id": "one", "shop": SHOP, "accessToken": "a"}
    for members in ({}, {}, {"state": "other"}, {"accessToken": "b"}):
        await service.call("PUT", "/v1/sessions/one", session | members)
    for _ in range(2):
        await service.call("DELETE", "/v1/sessions/one")
    await service.call("PUT", "/v1/sessions/one", session)
    await service.call("DELETE", f"/v1/shops/{SHOP}")
    told = (await service.call("GET", f"/v1/shops/{SHOP}/token-events")).body["items"]
    assert [(item["kind"], item["reason"]) for item in reversed(told)] == [
        ("stored", None),
        ("stored", None),
        ("deleted", None),
        ("stored", None),
        ("deleted", "purged"),
    ]
    versions = [item["version"] for item in told]
    assert versions == sorted(versions, reverse=True)
