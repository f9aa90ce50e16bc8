"""What a process says of itself: what it last saw, and when."""

from chassis.web.health import Health, HealthSampler
from testkit.clock import FakeClock


class Dependencies:
    def __init__(self) -> None:
        self.state = {"postgres": "up", "redis": "up"}

    async def postgres(self) -> str:
        return self._say("postgres")

    async def redis(self) -> str:
        return self._say("redis")

    def _say(self, name: str) -> str:
        if self.state[name] == "broken":
            raise RuntimeError("a bug in the check")
        return self.state[name]


def health_of(dependencies: Dependencies) -> Health:
    return Health(
        service="queue-service",
        version="1",
        checks={"redis": dependencies.redis, "postgres": dependencies.postgres},
        needed=frozenset({"postgres"}),
    )


async def test_pass_warn_and_fail(clock: FakeClock) -> None:
    dependencies = Dependencies()
    health = health_of(dependencies)
    sampler = HealthSampler(health, clock)
    assert health.report()["sampled_at"] is None
    for redis, postgres, status in [
        ("up", "up", "pass"),
        ("absent", "up", "pass"),
        ("down", "up", "warn"),
        ("down", "down", "fail"),
        ("up", "up", "pass"),
    ]:
        dependencies.state = {"redis": redis, "postgres": postgres}
        await sampler.run_once()
        assert health.status == status
        assert health.report()["checks"] == {"redis": redis, "postgres": postgres}


async def test_a_check_that_breaks_means_down_and_hides_no_other(clock: FakeClock) -> None:
    dependencies = Dependencies()
    health = health_of(dependencies)
    dependencies.state = {"redis": "broken", "postgres": "down"}
    await HealthSampler(health, clock).run_once()
    assert health.seen == {"redis": "down", "postgres": "down"}


async def test_the_report_says_when_it_was_seen(clock: FakeClock) -> None:
    health = health_of(Dependencies())
    await HealthSampler(health, clock).run_once()
    clock.advance(100)
    assert health.report()["sampled_at"] == "2026-01-01T12:00:00Z"


def test_ready_means_started_and_nothing_against_it() -> None:
    health = health_of(Dependencies())
    assert not health.ready
    health.started()
    assert health.ready
    health.unready_because = lambda: "no policies yet"
    assert not health.ready
    health.unready_because = lambda: None
    health.stopping()
    assert not health.ready


def test_facts_of_the_service_are_in_the_report() -> None:
    health = health_of(Dependencies())
    health.facts = lambda: {"spool": 3}
    assert health.report()["spool"] == 3
