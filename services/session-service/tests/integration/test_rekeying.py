"""Another key takes over while everything goes on, and afterwards the old one is not needed."""

import asyncio
from typing import Any

import asyncpg
import pytest

from chassis import crypto
from session_service.core import rekeying

SHOP = "greek-olives.myshopify.com"
OLD, NEW = (f"{name}:{crypto.new_key()}" for name in "ab")
ADMIN = frozenset({"admin"})
IDS = [f"session-{number:03}" for number in range(60)]


def session(session_id: str, round_: int = 0) -> dict[str, Any]:
    return {
        "id": session_id,
        "shop": SHOP,
        "accessToken": f"access-{session_id}-{round_}",
        "refreshToken": f"refresh-{session_id}-{round_}",
    }


async def put(service: Any, session_id: str, round_: int = 0) -> None:
    answer = await service.call("PUT", f"/v1/sessions/{session_id}", session(session_id, round_))
    assert answer.status == 200


async def fetch(dsn: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close()


async def rekey(service: Any) -> dict[str, int]:
    answer = await service.call("POST", "/v1/maintenance/rekey", scopes=ADMIN)
    assert answer.status == 200
    done: dict[str, int] = answer.body
    return done


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rekeying, "CHUNK", 7)


async def test_afterwards_the_old_key_is_not_needed_and_no_stamp_has_moved(
    start: Any, database: str
) -> None:
    before = await start(session_keys=OLD)
    await asyncio.gather(*(put(before, each) for each in IDS))
    await put(before, IDS[0], 1)
    stamps = await fetch(database, "select id, gen, version from shopify_session order by id")
    during = await start(session_keys=f"{NEW},{OLD}")
    assert await rekey(during) == {"rekeyed": len(IDS), "left": 0, "unreadable": 0}
    assert await rekey(during) == {"rekeyed": 0, "left": 0, "unreadable": 0}
    assert await fetch(database, "select id, gen, version from shopify_session order by id") == (
        stamps
    )
    after = await start(session_keys=NEW)
    for each in IDS:
        answer = await after.call("GET", f"/v1/sessions/{each}")
        assert answer.body == session(each, int(each == IDS[0]))


async def test_a_key_is_rotated_under_load(start: Any, database: str) -> None:
    """Writers of both orders of the ring, as while replicas are replaced one by one."""
    old, new = await start(session_keys=f"{OLD},{NEW}"), await start(session_keys=f"{NEW},{OLD}")
    await asyncio.gather(*(put(old, each) for each in IDS))
    last: dict[str, int] = {}
    ended = asyncio.Event()

    async def write(service: Any, mine: list[str]) -> None:
        round_ = 0
        while not ended.is_set():
            round_ += 1
            for each in mine:
                await put(service, each, round_)
                last[each] = round_
                answer = await service.call("GET", f"/v1/sessions/{each}")
                assert answer.body == session(each, round_)

    writers = [
        asyncio.create_task(write(service, IDS[first::4]))
        for first, service in enumerate((old, new, old))
    ]
    for _ in range(4):
        done = await rekey(new)
        assert (done["left"], done["unreadable"]) == (0, 0)
    ended.set()
    await asyncio.gather(*writers)
    assert (await rekey(new))["rekeyed"] > 0
    after = await start(session_keys=NEW)
    for each in IDS:
        answer = await after.call("GET", f"/v1/sessions/{each}")
        assert answer.body == session(each, last.get(each, 0))


async def test_a_row_of_two_keys_is_under_neither(start: Any, database: str) -> None:
    """Tokens that a replica of another order wrote beside a body that it left alone."""
    await put(await start(session_keys=OLD), "one")
    part = "update shopify_session set access_token = 'enc:v1:b:text', key_id = 'b'"
    await fetch(database, part)
    assert await fetch(database, "select key_id from shopify_session") == [("",)]


async def test_what_no_key_opens_is_told_and_stops_nothing(start: Any, database: str) -> None:
    await put(await start(session_keys=f"lost:{crypto.new_key()}"), IDS[0])
    service = await start(session_keys=OLD)
    await asyncio.gather(*(put(service, each) for each in IDS[1:20]))
    rotated = await start(session_keys=f"{NEW},{OLD}")
    assert await rekey(rotated) == {"rekeyed": 19, "left": 0, "unreadable": 1}


async def test_what_there_was_no_time_for_is_told(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await start(session_keys=OLD)
    await asyncio.gather(*(put(before, each) for each in IDS[:10]))
    service = await start(session_keys=f"{NEW},{OLD}")
    monkeypatch.setattr(rekeying, "WORK_S", 0.0)
    assert await rekey(service) == {"rekeyed": 7, "left": 3, "unreadable": 0}
    assert await rekey(service) == {"rekeyed": 3, "left": 0, "unreadable": 0}


async def test_a_row_that_is_being_written_is_not_waited_for(start: Any, database: str) -> None:
    await put(await start(session_keys=OLD), "held")
    service = await start(session_keys=f"{NEW},{OLD}")
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            await connection.execute("select 1 from shopify_session for update")
            assert await rekey(service) == {"rekeyed": 0, "left": 1, "unreadable": 0}
    finally:
        await connection.close()
    assert await rekey(service) == {"rekeyed": 1, "left": 0, "unreadable": 0}
