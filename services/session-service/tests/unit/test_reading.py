"""Many readers, one statement at a time, and nobody waits for a database that is away."""

import asyncio
from collections.abc import Sequence

import pytest

from chassis import crypto
from chassis.kernel import breaker, deadline, errors
from session_service.core import reading, record
from session_service.core.reading import Reader
from session_service.core.recent import MAX_SESSIONS, Recent
from session_service.core.sealing import Sealed, Vault
from testkit.clock import FakeClock

VAULT = Vault(crypto.Keyring(f"k1:{crypto.new_key()}"))


def sealed(session_id: str) -> Sealed:
    return VAULT.seal(record.from_document({"id": session_id, "shop": "s"}))


class Table:
    """A table that answers when told to."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.seen: list[str] = []
        self.open = asyncio.Event()
        self.is_away = False

    async def find(self, ids: Sequence[str]) -> list[Sealed]:
        self.asked.append(list(ids))
        await self.open.wait()
        if self.is_away:
            raise errors.Unavailable("away")
        return [sealed(each) for each in ids if each != "absent"]

    async def look(self, rows: Sequence[Sealed]) -> None:
        self.seen += [row.id for row in rows]


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def reader(table: Table, clock: FakeClock) -> Reader:
    return Reader(find=table.find, seen=table.look, clock=clock)


async def test_readers_gather_while_a_statement_is_in_flight(table: Table, reader: Reader) -> None:
    first = asyncio.create_task(reader.read("a"))
    while not table.asked:
        await asyncio.sleep(0)
    others = [asyncio.create_task(reader.read(each)) for each in ("b", "c", "b", "absent")]
    for _ in range(3):
        await asyncio.sleep(0)
    table.open.set()
    rows = [row for row, _ in await asyncio.gather(first, *others)]
    assert [row.id if row else None for row in rows] == ["a", "b", "c", "b", None]
    assert table.asked == [["a"], ["b", "c", "absent"]]
    await reader.close()
    assert table.seen == ["a", "b", "c"]


async def test_an_absent_database_is_told_at_once_when_it_is_known(
    table: Table, reader: Reader, clock: FakeClock
) -> None:
    table.is_away = True
    table.open.set()
    for _ in range(2):
        with pytest.raises(errors.Unavailable):
            await reader.read("a")
    assert reader.circuit.state is breaker.State.OPEN
    asked = len(table.asked)
    with pytest.raises(errors.Unavailable):
        await reader.read("a")
    assert len(table.asked) == asked
    table.is_away = False
    clock.advance(3)
    row, as_of = await reader.read("a")
    assert row is not None
    assert as_of == clock.monotonic()


async def test_a_database_that_hangs_costs_its_budget_once(
    table: Table, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "BUDGET_S", 0.05)
    with pytest.raises(errors.Unavailable):
        await reader.read("a")
    assert reader.circuit.state is breaker.State.OPEN


async def test_a_caller_in_a_hurry_says_nothing_of_the_database(
    table: Table, reader: Reader
) -> None:
    patient = asyncio.create_task(reader.read("a"))
    await asyncio.sleep(0)
    deadline.bind(deadline.Deadline.after(0.05))
    with pytest.raises(errors.Unavailable):
        await reader.read("a")
    assert reader.circuit.state is breaker.State.CLOSED
    table.open.set()
    assert (await patient)[0] is not None


def test_recent_sessions_are_forgotten_in_time_and_in_number(clock: FakeClock) -> None:
    recent = Recent(clock)
    one = record.from_document({"id": "a", "shop": "s"})
    recent.keep(one, as_of=clock.monotonic() - 1.5)
    assert recent.get("a") == one
    clock.advance(0.5)
    assert recent.get("a") is None
    for number in range(MAX_SESSIONS + 1):
        recent.forget(str(number), 1)
    assert recent.get("a") is None


def test_a_slow_read_does_not_undo_what_a_write_has_told(clock: FakeClock) -> None:
    recent = Recent(clock)
    old = record.from_document({"id": "a", "shop": "s"})
    recent.forget("a", 7)
    recent.keep(old, as_of=clock.monotonic())
    assert recent.get("a") is None
