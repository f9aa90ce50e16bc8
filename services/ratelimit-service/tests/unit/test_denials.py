"""A denial that is kept says what the store would say, and is forgotten when it might not."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from chassis.kernel import errors
from contracts.ratelimits import Backend
from ratelimit_service.core import gcra
from ratelimit_service.core.denials import Denials
from ratelimit_service.core.switch import Ruling
from testkit.clock import FakeClock

SECOND_US = 1_000_000
PACE = gcra.Pace(SECOND_US, 10 * SECOND_US, 1)


@dataclass
class Store:
    """The reference, asked and counted."""

    clock: FakeClock
    backend: Backend = Backend.POSTGRES
    asked: int = 0
    era: int = 1
    replicas: int = 1
    records: dict[str, gcra.RateLimitRecord] = field(default_factory=dict)

    async def rule(self, asks: Sequence[gcra.Ask]) -> list[Ruling]:
        self.asked += len(asks)
        now_us = int(self.clock.monotonic() * SECOND_US)
        verdicts, changed = gcra.decide(gcra.Batch(asks), self.records, now_us)
        self.records |= changed
        return [Ruling(verdict, self.backend) for verdict in verdicts]

    def lower(self, key: str, tokens: int) -> None:
        record = self.records[key]
        self.records[key] = gcra.RateLimitRecord(record.tat_us - tokens * SECOND_US, record.pace)


@pytest.fixture
def store(clock: FakeClock) -> Store:
    return Store(clock)


@pytest.fixture
def denials(store: Store, clock: FakeClock) -> Denials:
    return in_front_of(store, clock)


def in_front_of(store: Store, clock: FakeClock, *, capacity: int = 100) -> Denials:
    return Denials(
        store.rule,
        monotonic=clock.monotonic,
        era=lambda: store.era,
        replicas=lambda: store.replicas,
        capacity=capacity,
    )


def ask(cost: int = 1, key: str = "k", *, pace: gcra.Pace = PACE, **how: int) -> gcra.Ask:
    peek = bool(how.pop("peek", 0))
    shadow = bool(how.pop("shadow", 0))
    return gcra.Ask((gcra.Limit(key, pace, cost, shadow=shadow, **how),), peek)


async def spent(denials: Denials, key: str = "k") -> None:
    """Over the limit, and refused once."""
    assert (await denials([ask(10, key)]))[0].verdict.passed
    assert not (await denials([ask(1, key)]))[0].verdict.passed


async def test_an_attack_on_one_key_costs_the_store_nothing(denials: Denials, store: Store) -> None:
    await spent(denials)
    before = store.asked
    rulings = [(await denials([ask()]))[0] for _ in range(1000)]
    assert not any(ruling.verdict.passed for ruling in rulings)
    assert store.asked == before


async def test_the_answer_still_says_who_decided(denials: Denials, store: Store) -> None:
    store.backend = Backend.REDIS
    await spent(denials)
    store.backend = Backend.POSTGRES
    assert (await denials([ask()]))[0].backend is Backend.REDIS


async def test_it_counts_down_as_the_store_does(
    denials: Denials, store: Store, clock: FakeClock
) -> None:
    await spent(denials)
    clock.advance(0.3)
    [kept] = await denials([ask()])
    [true] = await store.rule([ask(peek=1)])
    assert kept.verdict.levels == true.verdict.levels
    assert kept.verdict.levels[0].over_us(1) == 700_000


async def test_a_debt_is_kept_and_not_a_denial(
    denials: Denials, store: Store, clock: FakeClock
) -> None:
    """What was refused to one may be allowed to another, for less or with more patience."""
    assert (await denials([ask(8)]))[0].verdict.passed
    assert not (await denials([ask(3)]))[0].verdict.passed
    before = store.asked
    assert (await denials([ask(2)]))[0].verdict.passed
    assert (await denials([ask(1, wait_us=5 * SECOND_US)]))[0].verdict.passed
    assert store.asked == before + 2


async def test_who_waited_as_told_is_allowed(
    denials: Denials, store: Store, clock: FakeClock
) -> None:
    store.replicas = 1
    pace = gcra.Pace(SECOND_US // 2, SECOND_US, 1)
    await denials([ask(2, pace=pace)])
    [refused] = await denials([ask(pace=pace)])
    clock.advance(refused.verdict.levels[0].over_us(1) / SECOND_US)
    assert (await denials([ask(pace=pace)]))[0].verdict.passed


async def test_nothing_is_believed_for_long(
    denials: Denials, store: Store, clock: FakeClock
) -> None:
    await spent(denials)
    clock.advance(0.9)
    await denials([ask(5)])
    before = store.asked
    clock.advance(0.2)
    await denials([ask(5)])
    assert store.asked == before + 1


async def test_answers_do_not_prolong_it(denials: Denials, store: Store, clock: FakeClock) -> None:
    await spent(denials)
    before = store.asked
    for _ in range(30):
        clock.advance(0.1)
        await denials([ask(9)])
    assert store.asked >= before + 2


async def test_beside_other_replicas_it_is_believed_for_a_quarter_of_a_second(
    denials: Denials, store: Store, clock: FakeClock
) -> None:
    """What they give back we do not hear of."""
    await spent(denials)
    store.replicas = 2
    store.lower("k", 5)
    clock.advance(0.24)
    assert not (await denials([ask()]))[0].verdict.passed
    clock.advance(0.02)
    assert (await denials([ask()]))[0].verdict.passed


async def test_what_was_given_back_is_there_at_once(denials: Denials, store: Store) -> None:
    await spent(denials)
    store.lower("k", 1)
    denials.forget(["k"])
    assert (await denials([ask()]))[0].verdict.passed


@pytest.mark.parametrize("op", [gcra.Op.GIVE, gcra.Op.RESET])
async def test_a_refund_or_a_reset_through_us_is_seen_at_once(
    denials: Denials, op: gcra.Op
) -> None:
    await spent(denials)
    give = gcra.Limit("k", PACE, 1, wait_us=SECOND_US, op=op)
    assert (await denials([gcra.Ask((give,))]))[0].verdict.passed
    assert (await denials([ask()]))[0].verdict.passed


async def test_a_refund_that_may_have_been_made_is_seen_too(denials: Denials, store: Store) -> None:
    await spent(denials)
    rule = denials._rule

    async def fails(asks: Sequence[gcra.Ask]) -> list[Ruling]:
        await rule(asks)
        raise errors.Unavailable("nobody knows")

    denials._rule = fails
    with pytest.raises(errors.Unavailable):
        await denials([gcra.Ask((gcra.Limit("k", PACE, 1, wait_us=SECOND_US, op=gcra.Op.GIVE),))])
    denials._rule = rule
    assert (await denials([ask()]))[0].verdict.passed


async def test_a_refusal_on_its_way_while_something_is_given_back_is_not_kept(
    denials: Denials, store: Store
) -> None:
    await spent(denials)
    denials.forget_all()
    rule = denials._rule

    async def slow(asks: Sequence[gcra.Ask]) -> list[Ruling]:
        rulings = await rule(asks)
        store.lower("k", 1)
        denials.forget(["k"])
        return rulings

    denials._rule = slow
    assert not (await denials([ask()]))[0].verdict.passed
    denials._rule = rule
    assert (await denials([ask()]))[0].verdict.passed


async def test_another_decider_is_asked_anew(denials: Denials, store: Store) -> None:
    await spent(denials)
    store.records.clear()
    store.era += 1
    assert (await denials([ask()]))[0].verdict.passed


async def test_another_policy_is_asked_anew(denials: Denials, store: Store) -> None:
    await spent(denials)
    wider = gcra.Pace(SECOND_US, 20 * SECOND_US, 2)
    assert (await denials([ask(pace=wider)]))[0].verdict.passed


async def test_a_shadow_limit_refuses_nobody(denials: Denials, store: Store) -> None:
    await spent(denials)
    assert (await denials([ask(shadow=1)]))[0].verdict.passed


async def test_a_peek_is_answered_by_the_store(denials: Denials, store: Store) -> None:
    await spent(denials)
    before = store.asked
    await denials([ask(peek=1)])
    assert store.asked == before + 1


async def test_limits_that_nobody_has_seen_are_not_made_up(denials: Denials, store: Store) -> None:
    await spent(denials)
    before = store.asked
    both = gcra.Ask((gcra.Limit("k", PACE, 1), gcra.Limit("other", PACE, 1)))
    assert not (await denials([both]))[0].verdict.passed
    assert store.asked == before + 1
    assert not (await denials([both]))[0].verdict.passed
    assert store.asked == before + 1


async def test_a_key_that_is_named_twice_owes_what_it_owes(denials: Denials, store: Store) -> None:
    """The second of two limits was refused for what the first would have taken."""
    twice = gcra.Ask((gcra.Limit("k", PACE, 6), gcra.Limit("k", PACE, 6)))
    assert not (await denials([twice]))[0].verdict.passed
    assert (await denials([ask(10)]))[0].verdict.passed


async def test_what_was_decided_alone_is_not_kept(denials: Denials, store: Store) -> None:
    store.backend = Backend.LOCAL
    await spent(denials)
    assert len(denials) == 0


async def test_a_batch_asks_only_for_what_is_not_known(denials: Denials, store: Store) -> None:
    await spent(denials)
    before = store.asked
    rulings = await denials([ask(key="a"), ask(), ask(key="b"), ask()])
    assert [each.verdict.passed for each in rulings] == [True, False, True, False]
    assert store.asked == before + 2


async def test_memory_is_bounded_and_the_oldest_go_first(store: Store, clock: FakeClock) -> None:
    denials = in_front_of(store, clock, capacity=3)
    for key in "abcde":
        await spent(denials, key)
    assert len(denials) == 3
    before = store.asked
    await denials([ask(key="e")])
    assert store.asked == before
    await denials([ask(key="a")])
    assert store.asked == before + 1


async def test_what_is_over_leaves(denials: Denials, store: Store, clock: FakeClock) -> None:
    for number in range(50):
        await spent(denials, f"k{number}")
    clock.advance(2)
    for number in range(30):
        await spent(denials, f"other{number}")
    assert len(denials) == 30
