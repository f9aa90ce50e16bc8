"""The roads, by what was seen of everybody."""

from typing import Any

import pytest

from chassis.kernel import breaker
from gateway.core.system import System, is_fresh
from testkit.clock import FakeClock

GOOD = {"status": "pass", "checks": {"postgres": "up", "redis": "absent", "rabbitmq": "absent"}}
ALL = ("queue-service", "session-service", "ratelimit-service", "queue-worker")


class World:
    def __init__(self, clock: FakeClock) -> None:
        self.own: dict[str, Any] = dict(GOOD)
        self.bus = False
        self.limits_alone = False
        self.circuits = {
            name: breaker.Breaker(name, monotonic=clock.monotonic, uniform=lambda _low, high: high)
            for name in ALL[:3]
        }
        self.system = System(
            circuits=self.circuits,
            own=lambda: self.own,
            bus_is_up=lambda: self.bus,
            cache=lambda: "memory",
            limits_alone=lambda: self.limits_alone,
            clock=clock,
        )

    def look(self, **others: Any) -> dict[str, Any]:
        for name in ALL:
            good = {**GOOD, "limits": "redis", "dispatch": "redis"}
            self.system.saw(name, others.get(name.replace("-", "_"), good))
        self.system.sampled()
        return self.system.tell()


@pytest.fixture
def world(clock: FakeClock) -> World:
    return World(clock)


def test_all_is_well(world: World) -> None:
    told = world.look()
    assert told["roads"] == {
        "enqueue": "direct", "dispatch": "redis", "limits": "redis", "sessions": "direct",
        "cache": "memory",
    }  # fmt: skip
    assert not told["degraded"]


def test_one_missed_look_is_no_death_two_are(world: World) -> None:
    world.look()
    assert world.look(queue_service=None)["roads"]["enqueue"] == "direct"
    told = world.look(queue_service=None)
    assert told["roads"]["enqueue"] == "spool"
    assert told["services"]["queue-service"]["status"] == "down"
    assert told["degraded"]
    assert "enqueue jobs: kept now, run once queue-service is back" in told["can"]


def test_an_open_circuit_shuts_the_road_until_three_trials_were_good(world: World) -> None:
    circuit = world.circuits["queue-service"]
    circuit.force_open()
    world.bus = True
    assert world.look()["roads"]["enqueue"] == "bus"
    circuit.invite()
    assert world.look()["roads"]["enqueue"] == "bus"
    for _ in range(3):
        ticket = circuit.admit()
        assert ticket is not None
        circuit.success(ticket)
    assert world.look()["services"]["queue-service"]["circuit"] == "recovering"
    assert world.look()["roads"]["enqueue"] == "direct"


def test_without_table_and_bus_the_road_is_shut(world: World) -> None:
    world.circuits["queue-service"].force_open()
    world.own = {**GOOD, "status": "warn", "checks": {"postgres": "down"}}
    told = world.look()
    assert told["roads"]["enqueue"] == "shut"
    assert told["dependencies"]["postgres"] == "down"
    assert told["services"]["gateway"]["status"] == "degraded"


def test_one_who_sees_it_down_makes_a_dependency_down(world: World) -> None:
    ill = {**GOOD, "checks": {"redis": "down", "postgres": "up"}}
    assert world.look(session_service=ill)["dependencies"]["redis"] == "down"
    well = {**GOOD, "checks": {"redis": "up", "postgres": "up"}}
    assert world.look(session_service=well)["dependencies"]["redis"] == "up"


def test_who_holds_the_horizon_of_the_queues_is_told_while_somebody_does(world: World) -> None:
    held = {"holder": "session", "name": "report pid 7", "age_s": 90, "transactions": 1200}
    assert world.look(queue_service={**GOOD, "horizon": held})["horizon"] == held
    assert world.look(queue_service={**GOOD, "horizon": {}})["horizon"] is None


def test_limits_and_sessions_follow_their_owners(world: World) -> None:
    world.circuits["ratelimit-service"].force_open()
    world.circuits["session-service"].force_open()
    roads = world.look()["roads"]
    assert (roads["limits"], roads["sessions"]) == ("local", "shut")


def test_a_report_that_nobody_renews_says_nothing(clock: FakeClock) -> None:
    said = clock.now().isoformat()
    assert is_fresh({"sampled_at": said}, clock.now())
    clock.advance(6)
    assert not is_fresh({"sampled_at": said}, clock.now())
    assert not is_fresh({}, clock.now())
    assert not is_fresh({"sampled_at": None}, clock.now())


def test_a_gateway_that_limits_alone_says_so_although_the_service_looks_well(world: World) -> None:
    world.limits_alone = True
    assert world.look()["roads"]["limits"] == "local"
    world.limits_alone = False
    assert world.look()["roads"]["limits"] == "redis"
