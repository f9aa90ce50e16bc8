"""A limiter in memory, on the test's clock: it counts as the real one promises, and can be away."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from chassis.kernel import errors
from gateway.core import admission, gcra, policies, ports
from testkit.clock import FakeClock


class Limiter:
    """`calls`: what it was asked, by kind; `given`: tokens that it gave out, leased ones too."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.buckets = gcra.Buckets(clock.monotonic)
        self.paces = {name: known.pace for name, known in policies.DEFAULTS.items()}
        self.known: list[ports.Policy] = []
        self.calls: Counter[str] = Counter()
        self.given: Counter[str] = Counter()
        self.demands: list[ports.Demand] = []
        self.leases: list[tuple[str, int]] = []
        self.returned: list[tuple[str, int]] = []
        self.debits: list[tuple[str, ports.Subject, int]] = []
        self.listed: set[str] = set()
        self.backend = "postgres"
        self.leases_nothing = False
        self.is_away = False

    async def check(self, demand: ports.Demand) -> ports.Decision:
        self._called("check")
        self.demands.append(demand)
        if demand.address in self.listed:
            return ports.Decision(False, (), 0.0, self.backend)
        known = [(name, policies.DEFAULTS[name].subject(demand)) for name in demand.policies]
        keys = [(name, subject) for name, subject in known if subject is not None]
        levels = [self.buckets.peek(_key(*key), self.paces[key[0]]) for key in keys]
        allowed = all(level.allowed for level in levels)
        if allowed and demand.takes:
            levels = [self.buckets.take(_key(*key), self.paces[key[0]]) for key in keys]
            self.given.update(name for name, _ in keys)
        limits = tuple(
            self._limit(name, level) for (name, _), level in zip(keys, levels, strict=True)
        )
        wait_s = max(level.retry_after_s for level in levels)
        return ports.Decision(
            allowed, limits, wait_s, self.backend, admission.degraded(self.backend)
        )

    async def answers(self) -> None:
        self._called("answers")

    async def lease(
        self, policy: str, subject: ports.Subject, *, want: int, ttl_s: float
    ) -> ports.Grant:
        self._called("lease")
        await asyncio.sleep(0)
        if self.leases_nothing:
            raise errors.Invalid("no leases here")
        key, pace = _key(policy, subject), self.paces[policy]
        granted = min(want, self.buckets.peek(key, pace).remaining)
        for _ in range(granted):
            self.buckets.take(key, pace)
        self.leases.append((policy, granted))
        self.given[policy] += granted
        level = self.buckets.peek(key, pace)
        return ports.Grant(
            f"l{len(self.leases)}", granted, self._limit(policy, level), self.backend
        )

    async def give_back(self, lease: str, unspent: int) -> None:
        self._called("give_back")
        self.returned.append((lease, unspent))

    async def debit(self, policy: str, subject: ports.Subject, tokens: int) -> ports.Limit:
        self._called("debit")
        self.debits.append((policy, subject, tokens))
        key, pace = _key(policy, subject), self.paces[policy]
        for _ in range(tokens):
            self.buckets.take(key, pace)
        return self._limit(policy, self.buckets.peek(key, pace))

    async def policies(self) -> list[ports.Policy]:
        self._called("policies")
        return self.known

    def _called(self, what: str) -> None:
        self.calls[what] += 1
        if self.is_away:
            raise errors.Unavailable("away")

    def _limit(self, policy: str, level: gcra.Level) -> ports.Limit:
        pace = self.paces[policy]
        reset_s = level.retry_after_s or pace.t_us / gcra.SECOND_US
        return ports.Limit(
            policy, pace.burst, level.remaining, pace.window_s, reset_s, not level.allowed
        )


def _key(policy: str, subject: ports.Subject) -> gcra.Key:
    return (policy, subject[1])


@pytest.fixture(scope="session")
def limiter_on() -> Callable[[FakeClock], Limiter]:
    """For tests that make many."""
    return Limiter


@pytest.fixture
def limiter(clock: FakeClock) -> Limiter:
    return Limiter(clock)


Door = Callable[..., admission.Admission]


@pytest.fixture
def counted() -> Counter[tuple[str, str]]:
    return Counter()


@pytest.fixture
def moved() -> Counter[str]:
    return Counter()


@pytest.fixture
def make_admission(
    clock: FakeClock,
    limiter: Limiter,
    counted: Counter[tuple[str, str]],
    moved: Counter[str],
) -> Door:
    def make(*, gateways: int = 1) -> admission.Admission:
        return admission.Admission(
            limiter=limiter,
            monotonic=clock.monotonic,
            counted=lambda backend, outcome: counted.update([(backend, outcome)]),
            moved=lambda what, tokens: moved.update({what: tokens}),
            gateways=gateways,
        )

    return make
