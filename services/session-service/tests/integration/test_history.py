"""What happened to tokens is told in the transaction of the change, and in none that failed."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from contracts import events
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
