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


def moved(op: gcra.Op, cost: int = 0, wait_us: int = 0) -> gcra.Ask:
    return gcra.Ask((gcra.Limit("k", PACE, cost, wait_us, op=op),))


def test_a_reset_is_handed_over_even_if_nothing_is_owed(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    ledger.note(moved(gcra.Op.RESET), passed(ask(0), 50_000_000), synced=False)
    assert ledger.is_due
    piece = ledger.take()
    assert piece == {"k": Owed(gcra.Level(0, PACE), is_reset=True)}
    ledger.keep(piece)
    ledger.note(ask(3), passed(ask(3)), synced=False)
    assert ledger.take() == {"k": Owed(gcra.Level(3_000_000, PACE), is_reset=True)}
    assert ledger.take(everything=True) == {}


def test_what_is_given_back_is_remembered_and_not_handed_over(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    given = moved(gcra.Op.GIVE, 5, 5_000_000)
    ledger.note(given, passed(ask(0), 9_000_000), synced=False)
    assert ledger.last("k") == gcra.Level(4_000_000, PACE)
    assert ledger.take(everything=True) == {}


def test_what_is_raised_by_force_is_handed_over(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    ledger.note(moved(gcra.Op.PENALIZE, 30), passed(ask(0), 90_000_000), synced=False)
    assert ledger.take() == {"k": Owed(gcra.Level(100_000_000, PACE))}
    ledger.note(moved(gcra.Op.RAISE, 0, 20_000_000), passed(ask(0), 0), synced=False)
    assert ledger.take() == {"k": Owed(gcra.Level(20_000_000, PACE))}


QUOTA = gcra.Pace(1, 100, 1)


def of_quota(cost: int, number: int) -> tuple[gcra.Ask, gcra.Verdict]:
    window = gcra.Window(number, 0, 60_000_000, 60_000_000, sliding=True)
    asked = gcra.Ask((gcra.Limit("q", QUOTA, cost, window=window),))
    span = gcra.Span(number, 20, 10, 30_000_000, 60_000_000)
    return asked, gcra.Verdict(True, (gcra.Level(15, QUOTA, span),))


def test_of_a_quota_the_count_and_its_window_are_handed_over(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    ledger.note(*of_quota(10, 7), synced=False)
    clock.advance(10)
    [owed] = ledger.take().values()
    assert owed.level.used == 15
    assert owed.level.span == gcra.Span(7, 20, 10, 20_000_000, 60_000_000)


def test_replicas_that_are_alone_share_what_was_left_of_a_quota(clock: FakeClock) -> None:
    now_us = int(clock.now().timestamp()) * 1_000_000
    window = gcra.Window(7, now_us - 30_000_000, now_us + 30_000_000, 60_000_000)
    span = gcra.Span(7, 0, 0, 30_000_000, 60_000_000)
    asked = gcra.Ask((gcra.Limit("q", QUOTA, 1, window=window),))
    given = 0
    for _replica in range(4):
        ledger = Ledger(clock.monotonic)
        ledger.put("q", gcra.Level(20, QUOTA, span), 0)
        local = Local(ledger, clock)
        given += sum(local.decide(asked, replicas=4).passed for _ in range(100))
    assert given == 80


def test_a_key_is_late_from_two_shares_that_postgres_has_not_confirmed(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)

    def spend(cost: int) -> None:
        ledger.note(ask(cost), passed(ask(cost)), synced=False)

    spend(19)
    assert not ledger.is_late(["k"])
    piece = ledger.take()
    spend(1)  # and what is on its way counts too
    assert ledger.is_late(["k", "other"])
    assert not ledger.is_late(["other"])
    ledger.confirm(piece)
    assert not ledger.is_late(["k"])
    spend(20)
    piece = ledger.take()
    ledger.keep(piece)
    assert ledger.is_late(["k"])
    spend(20)
    piece = ledger.take()
    spend(20)
    ledger.confirm(piece)
    assert ledger.is_late(["k"])  # what came meanwhile is not confirmed


def test_what_postgres_may_have_forgotten_is_told_again(clock: FakeClock) -> None:
    ledger = Ledger(clock.monotonic)
    ledger.note(ask(30, "old"), passed(ask(30, "old")), synced=True)
    clock.advance(3)
    ledger.note(ask(30, "new"), passed(ask(30, "new")), synced=True)
    ledger.doubt()
    assert set(ledger.take(everything=True)) == {"new"}
