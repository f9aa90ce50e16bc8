"""What a process remembers: handed over in time, aged, and shared when it is alone."""

from ratelimit_service.core import gcra
from ratelimit_service.core.ledger import Ledger, Owed
from ratelimit_service.core.local import Local
from testkit.clock import FakeClock

PACE = gcra.Pace(1_000_000, 100_000_000, 1)


def ask(cost: int, key: str = "k", *, pace: gcra.Pace = PACE) -> gcra.Ask:
    return gcra.Ask((gcra.Limit(key, pace, cost),))


def passed(asked: gcra.Ask, debt_us: int = 0) -> gcra.Verdict:
    return gcra.judge(asked, {limit.key: gcra.Level(debt_us, PACE) for limit in asked.limits})


def test_a_key_is_due_once_it_has_spent_its_share(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    ledger.note(ask(9), passed(ask(9)), synced=False)
    assert (ledger.is_due, ledger.take()) == (False, {})
    ledger.note(ask(1), passed(ask(1), 9_000_000), synced=False)
    assert ledger.is_due
    assert ledger.take() == {"k": Owed(gcra.Level(10_000_000, PACE))}
    assert ledger.waiting == 0


def test_what_is_handed_over_has_aged(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    ledger.note(ask(30), passed(ask(30)), synced=False)
    clock.advance(10)
    assert ledger.take() == {"k": Owed(gcra.Level(20_000_000, PACE))}


def test_what_was_not_taken_over_is_handed_over_again(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    ledger.note(ask(30), passed(ask(30)), synced=False)
    piece = ledger.take()
    ledger.keep(piece)
    assert ledger.take() == piece


def test_denials_peeks_and_what_postgres_knows_are_not_handed_over(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    denied = gcra.judge(ask(50), {"k": gcra.Level(90_000_000, PACE)})
    ledger.note(ask(50), denied, synced=False)
    peek = gcra.Ask(ask(50).limits, peek=True)
    ledger.note(peek, passed(peek), synced=False)
    ledger.note(ask(50), passed(ask(50)), synced=True)
    assert ledger.take(everything=True) == {}
    assert ledger.last("k") == gcra.Level(50_000_000, PACE)


def test_the_oldest_key_is_forgotten_past_the_capacity(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic, capacity=2)
    for key in ("a", "b", "c"):
        ledger.note(ask(1, key), passed(ask(1, key)), synced=False)
    assert ledger.last("a") is None
    assert set(ledger.take(everything=True)) == {"b", "c"}


def test_replicas_that_are_alone_share_what_was_left(clock: FakeClock) -> None:
    given = 0
    for _replica in range(4):
        ledger = Ledger(clock.monotonic)
        ledger.note(ask(20), passed(ask(20)), synced=True)
        local = Local(ledger)
        given += sum(local.decide(ask(1), replicas=4).passed for _ in range(100))
    assert given == 80


def test_a_key_that_was_never_seen_starts_half_full(clock: FakeClock) -> None:
    local = Local(Ledger(clock.monotonic))
    assert sum(local.decide(ask(1), replicas=1).passed for _ in range(100)) == 50


def test_what_was_given_out_alone_is_handed_over_at_the_pace_of_the_policy(
    clock: FakeClock,
) -> None:
    ledger = Ledger(clock.monotonic)
    Local(ledger).decide(ask(10), replicas=2)
    assert ledger.take(everything=True) == {"k": Owed(gcra.Level(70_000_000, PACE))}
