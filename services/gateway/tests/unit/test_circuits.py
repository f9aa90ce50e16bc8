"""Operators' words over circuits, and the timeline, before a store that is in memory."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from chassis.kernel import errors
from chassis.kernel.breaker import Breaker, Policy, State, Why
from contracts.gateway import CircuitMode
from gateway.core.circuits import KEPT_UNTOLD, Change, Circuits, Override
from testkit.clock import FakeClock

UPSTREAM = "queue-service"
BLIND = {"probe": None, "declared": None}


class Table:
    """A `CircuitStore` and an `EventLog`, for one upstream; `is_away` as a database can be."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.is_away = False
        self.override_: Override | None = None
        self.changes: dict[Any, Change] = {}
        self.events: dict[str, dict[str, Any]] = {}

    def _answer(self) -> None:
        if self.is_away:
            raise errors.Unavailable("the database is away")

    async def override(
        self, upstream: str, mode: CircuitMode, *, for_s: float, reason: str, by: str
    ) -> None:
        self._answer()
        until = self.clock.now() + timedelta(seconds=for_s)
        made = Override(
            upstream=upstream, mode=mode, reason=reason, by=by, left_s=for_s, until=until
        )
        self.override_ = None if mode is CircuitMode.AUTO else made

    async def overrides(self) -> list[Override]:
        self._answer()
        return [self.override_] if self.override_ is not None else []

    async def record(self, changes: Sequence[Change]) -> None:
        self._answer()
        self.changes |= {each.id: each for each in changes}

    async def newest(self, limit: int) -> list[Change]:
        self._answer()
        return list(self.changes.values())[-limit:][::-1]

    async def append(self, envelopes: Sequence[dict[str, Any]]) -> int:
        self.events |= {each["id"]: each for each in envelopes}
        return len(envelopes)

    async def after(self, number: int, *, shop: str | None, limit: int) -> list[Any]:
        raise NotImplementedError

    async def last(self) -> int:
        raise NotImplementedError

    async def forget(self, *, days: float) -> int:
        raise NotImplementedError


class Gateway:
    """One replica: a circuit, and what is told of it."""

    def __init__(self, table: Table, name: str) -> None:
        self.circuits = Circuits(store=table, log=table, gateway=name, clock=table.clock)
        self.breaker = Breaker(
            UPSTREAM,
            monotonic=table.clock.monotonic,
            policy=Policy(failures_to_open=1),
            on_change=self.circuits.changed,
        )
        self.circuits.watch(self.breaker)

    async def say(self, mode: CircuitMode, *, for_s: float = 60) -> None:
        await self.circuits.override(UPSTREAM, mode, for_s=for_s, reason="a move", by="k1")

    def told(self) -> dict[str, Any]:
        return self.circuits.tell(lambda _name: BLIND)

    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.told()["circuits"][UPSTREAM]
        return shown

    def fail(self) -> None:
        ticket = self.breaker.admit()
        assert ticket is not None
        self.breaker.failure(ticket)


@pytest.fixture
def table(clock: FakeClock) -> Table:
    return Table(clock)


@pytest.fixture
def one(table: Table) -> Gateway:
    return Gateway(table, "one")


async def test_a_word_holds_on_every_gateway_and_is_taken_back_on_every_one(
    table: Table, one: Gateway
) -> None:
    other = Gateway(table, "other")
    await one.say(CircuitMode.FORCE_OPEN)
    await other.circuits.refresh()
    for gateway in (one, other):
        assert gateway.breaker.state is State.OPEN
        shown = gateway.shown()
        assert (shown["mode"], shown["reason"], shown["by"]) == ("force_open", "a move", "k1")
    await other.say(CircuitMode.AUTO)
    await one.circuits.refresh()
    for gateway in (one, other):
        assert gateway.breaker.state is State.HALF_OPEN, "the way back leads over trials"
        assert (gateway.shown()["mode"], gateway.shown()["until"]) == ("auto", None)


async def test_a_word_runs_out_although_the_database_is_away(table: Table, one: Gateway) -> None:
    await one.say(CircuitMode.FORCE_CLOSED, for_s=30)
    table.is_away = True
    table.clock.advance(29)
    one.fail()
    assert (one.breaker.state, one.shown()["mode"]) == (State.CLOSED, "force_closed")
    table.clock.advance(1)
    one.fail()
    assert (one.breaker.state, one.shown()["mode"]) == (State.OPEN, "auto")
    with pytest.raises(errors.Unavailable):
        await one.circuits.refresh()
    assert one.breaker.state is State.OPEN


async def test_changes_are_told_once_they_can_be_written_down(table: Table, one: Gateway) -> None:
    news: list[int] = []
    one.circuits.has_news = lambda: news.append(1)
    table.is_away = True
    one.fail()
    assert news == [1]
    with pytest.raises(errors.Unavailable):
        await one.circuits.tell_others()
    [change] = one.told()["circuit_changes"]
    assert (change["old"], change["state"], change["why"]) == ("closed", "open", "traffic")
    table.is_away = False
    await one.circuits.tell_others()
    await one.circuits.tell_others()
    [event] = table.events.values()
    assert (event["type"], event["subject"]) == ("gateway.circuit.changed.v1", UPSTREAM)
    assert event["data"]["gateway"] == "one"
    await one.circuits.refresh()
    assert len(one.told()["circuit_changes"]) == 1


async def test_others_read_of_a_change_and_of_who_wanted_it(table: Table, one: Gateway) -> None:
    other = Gateway(table, "other")
    await one.say(CircuitMode.FORCE_OPEN)
    await one.circuits.tell_others()
    await other.circuits.refresh()
    changes = other.told()["circuit_changes"]
    assert {(each["gateway"], each["why"]) for each in changes} == {
        ("one", Why.OPERATOR), ("other", Why.OPERATOR)
    }  # fmt: skip
    [word] = [each for each in changes if each["mode"] is not None]
    assert (word["reason"], word["by"], word["old"], word["state"]) == (
        "a move", "k1", "closed", "open"
    )  # fmt: skip


async def test_a_service_that_is_not_there_is_not_found(one: Gateway) -> None:
    with pytest.raises(errors.NotFound):
        await one.circuits.override(
            "sms", CircuitMode.FORCE_OPEN, for_s=1, reason="a slip", by="k1"
        )


async def test_a_night_without_a_database_takes_no_more_than_so_much_memory(
    table: Table, one: Gateway
) -> None:
    for _ in range(KEPT_UNTOLD):
        one.breaker.pin(State.OPEN, for_s=9)
        one.breaker.pin(State.CLOSED, for_s=9)
    await one.circuits.tell_others()
    assert len(table.changes) == KEPT_UNTOLD


async def test_what_calls_say_is_shown(one: Gateway) -> None:
    assert one.shown()["signals"] == {**BLIND, "calls": 0.0, "success": None}
    for _ in range(4):
        ticket = one.breaker.admit()
        assert ticket is not None
        one.breaker.success(ticket)
    assert one.shown()["signals"] == {**BLIND, "calls": 4.0, "success": 1.0}
