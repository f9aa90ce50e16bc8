"""What looks at a service's health do to its circuit, beside what its traffic says."""

from dataclasses import dataclass
from typing import Any

import pytest

from chassis.kernel.breaker import Breaker, Policy, State, Why
from chassis.kernel.clock import rfc3339
from gateway import metrics
from gateway.core.system import QUEUE, System
from gateway.loops.probes import Probes
from testkit.clock import FakeClock

POLICY = Policy(failures_to_open=3, hold_base_s=8.0, hold_max_s=64.0, trials=3)


@dataclass
class Upstream:
    circuit: Breaker
    name: str = QUEUE
    succeeds: bool = False


class World:
    """One service; `says` is what the next looks bring."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.says: str | None = "pass"
        self.circuit = Breaker(
            QUEUE, monotonic=clock.monotonic, policy=POLICY, uniform=lambda _low, high: high
        )
        self.upstream = Upstream(self.circuit)
        system = System(
            circuits={QUEUE: self.circuit},
            own=dict,
            bus_is_up=lambda: False,
            cache=lambda: "memory",
            limits_alone=lambda: False,
            clock=clock,
        )
        self.probes = Probes(
            looks={QUEUE: self._look}, upstreams={QUEUE: self.upstream}, seen=system, clock=clock
        )

    async def _look(self) -> dict[str, Any] | None:
        if self.says is None:
            return None
        return {"status": self.says, "sampled_at": rfc3339(self.clock.now())}

    async def look(self, *said: str | None) -> State:
        for each in said:
            self.says = each
            await self.probes.run_once()
            self.clock.advance(1)
        return self.circuit.state

    def fail(self) -> None:
        for _ in range(POLICY.failures_to_open):
            ticket = self.circuit.admit()
            assert ticket is not None
            self.circuit.failure(ticket)
            if self.circuit.state is State.OPEN:
                return


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


def disagreed(probe: str) -> float:
    return float(metrics.DISAGREEMENTS.labels(QUEUE, probe)._value.get())


@pytest.mark.parametrize(
    ("looks", "state"),
    [
        ((None, None), State.CLOSED),
        ((None, None, None), State.OPEN),
        ((None, "pass", None, "warn", None), State.OPEN),
        ((None, "pass", None, "pass", "pass", None, "pass", None), State.CLOSED),
        (("fail", "fail", "fail"), State.OPEN),
        (("warn", "what?", None, "warn"), State.CLOSED),
    ],
)
async def test_three_bad_looks_of_the_last_five_open_it(
    world: World, looks: tuple[str | None, ...], state: State
) -> None:
    assert await world.look(*looks) is state


async def test_traffic_that_succeeds_keeps_it_closed_whatever_looks_say(world: World) -> None:
    world.upstream.succeeds = True
    before = disagreed("down")
    assert await world.look(None, None, None, None) is State.CLOSED
    assert disagreed("down") == before + 2
    world.upstream.succeeds = False
    assert await world.look(None) is State.OPEN
    assert world.circuit.why is Why.PROBE


async def test_looks_that_were_good_all_along_do_not_shorten_the_hold_of_calls_that_failed(
    world: World,
) -> None:
    await world.look("pass", "pass")
    world.fail()
    before = disagreed("up")
    assert await world.look(*["pass"] * 7) is State.OPEN
    assert disagreed("up") == before + 7
    assert await world.look("pass") is State.HALF_OPEN
    world.fail()
    assert await world.look(*["pass"] * 15) is State.OPEN, "the second hold is twice as long"


async def test_the_first_good_look_after_bad_ones_ends_the_hold_and_stands_for_a_trial(
    world: World,
) -> None:
    await world.look(None, None, None, None)
    assert await world.look("pass", "pass") is State.HALF_OPEN
    assert await world.look("pass") is State.RECOVERING


async def test_what_an_operator_has_pinned_no_look_moves(world: World) -> None:
    world.circuit.pin(State.CLOSED, for_s=100)
    assert await world.look(*[None] * 9) is State.CLOSED
    world.circuit.pin(State.OPEN, for_s=100)
    assert await world.look(*["pass"] * 9) is State.OPEN
