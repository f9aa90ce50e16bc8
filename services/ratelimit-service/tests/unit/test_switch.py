"""The lease: who has not heard of the epoch for a while does not decide by Redis."""

from collections.abc import Mapping, Sequence

import pytest

from contracts.ratelimits import Backend
from ratelimit_service.core import gcra, ports
from ratelimit_service.core.ledger import Ledger
from ratelimit_service.core.switch import LEASE_S, Switch
from testkit.clock import FakeClock

PACE = gcra.Pace(1_000_000, 100_000_000, 1)
ASKS = [gcra.Ask((gcra.Limit("k", PACE, 1),))]
BY_REDIS = ports.Epoch(seq=2, gen=1, backend=Backend.REDIS, mark="m", run_id="r")
BY_POSTGRES = ports.Epoch(seq=3, gen=1, backend=Backend.POSTGRES)


class World:
    """Redis, and the row that names the decider."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.epoch = BY_REDIS
        self.moves_during_call = False
        self.asked_redis = 0

    async def beat(self, *, run_id: str | None, seq: int) -> ports.Standing:
        return ports.Standing(epoch=self.epoch, age_us=10**12, replicas=2, may_open=False)

    async def depart(self, epoch: ports.Epoch) -> None:
        raise AssertionError("nobody has missed Redis")

    async def open(self, epoch: ports.Epoch, *, run_id: str, mark: str) -> bool:
        raise AssertionError("not ours to open")

    async def run_id(self) -> str:
        return "r"

    async def plant(self, mark: str) -> None: ...

    async def unplant(self, mark: str) -> None: ...

    async def decide(
        self,
        epoch: ports.Epoch,
        batch: gcra.Batch,
        debts: Mapping[str, gcra.Level | None],
        *,
        patient: bool,
    ) -> Sequence[ports.Found]:
        self.asked_redis += 1
        if self.moves_during_call:  # and meanwhile we stand still
            self.epoch = BY_POSTGRES
            self.clock.advance(LEASE_S + 0.01)
        return [ports.Found(ports.Answered.PASSED, (gcra.Level(0, PACE),))]


class Postgres:
    async def decide(self, batch: gcra.Batch, *, is_pinned: bool = False) -> list[gcra.Verdict]:
        return gcra.decide(batch, {}, 0)[0]

    async def debts(
        self, paces: Mapping[str, gcra.Pace], windows: Mapping[str, gcra.Window]
    ) -> Mapping[str, gcra.Level]:
        return {}

    async def merge(self, debts: Mapping[str, gcra.Level]) -> None: ...

    async def put(self, debts: Mapping[str, gcra.Level]) -> None: ...


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


@pytest.fixture
async def switch(world: World, clock: FakeClock) -> Switch:
    made = Switch(
        redis=world,
        postgres=Postgres(),
        epochs=world,
        ledger=Ledger(clock.monotonic),
        monotonic=clock.monotonic,
    )
    await made.beat()
    assert await decided_by(made) is Backend.REDIS
    return made


async def decided_by(switch: Switch) -> Backend:
    [ruling] = await switch.decide(ASKS)
    return ruling.backend


async def test_past_the_lease_the_row_is_read_before_redis_is_asked(
    switch: Switch, world: World, clock: FakeClock
) -> None:
    world.epoch = BY_POSTGRES
    assert await decided_by(switch) is Backend.REDIS  # within it nobody looks
    clock.advance(LEASE_S + 0.01)
    asked = world.asked_redis
    assert await decided_by(switch) is Backend.POSTGRES
    assert world.asked_redis == asked


async def test_an_answer_that_comes_after_the_lease_is_not_believed(
    switch: Switch, world: World
) -> None:
    world.moves_during_call = True
    assert await decided_by(switch) is Backend.POSTGRES
