"""The judge sees what was planted, and accuses nobody of what may be right."""

from collections.abc import Callable

import pytest

from testkit.history import Answer, Found, History

DONE = Found("j", "completed", result={"lease": "a"})


def fair() -> History:
    """One job, leased at 10 until 70, completed at 20."""
    history = History()
    history.enqueued("j", Answer.OK)
    history.leased("j", "a", known_at=10, until=70)
    history.ending("j", "a", "completed", told_at=20).answer = "settled"
    return history


def rules(history: History, *found: Found) -> list[str]:
    return [one.rule for one in history.judge(found)]


def test_a_fair_history_breaks_no_rule() -> None:
    history = fair()
    history.enqueued("refused", Answer.REFUSED)
    history.enqueued("who knows", Answer.UNKNOWN)
    history.enqueued("both", Answer.UNKNOWN)
    history.enqueued("both", Answer.OK, key="k")
    history.unanswered("lost")
    both = Found("both", "failed", key="k")
    assert rules(history, DONE, both, Found("new", "cancelled", key="lost")) == []
    history.ending("j", "a", "completed", told_at=21).answer = "duplicate"
    history.leased("j", "b", known_at=20.5, until=80)  # the answer to the ending was on its way
    history.ending("j", "b", "failed", told_at=60).answer = "lost"
    assert rules(history, DONE, both) == []


def test_a_lease_that_ran_out_or_was_given_up_makes_room() -> None:
    history = History()
    history.enqueued("j", Answer.OK)
    history.leased("j", "a", known_at=10, until=15)
    history.leased("j", "b", known_at=16, until=70)
    history.ending("j", "b", "snooze", told_at=17).answer = "settled"
    history.leased("j", "c", known_at=18, until=70)
    history.ending("j", "c", "completed", told_at=19)  # never answered
    assert rules(history, Found("j", "completed", result={"lease": "c"})) == []


def late(history: History) -> None:
    history.leased("j", "b", known_at=19, until=80)


def twice(history: History) -> None:
    history.leased("j", "b", known_at=75, until=130)
    history.ending("j", "b", "completed", told_at=80).answer = "settled"


def again(history: History) -> None:
    history.ending("j", "a", "snooze", told_at=30).answer = "settled"


def two_of_a_key(history: History) -> None:
    history.enqueued("j", Answer.OK, key="k")
    history.enqueued("i", Answer.OK, key="k")


PLANTED: list[tuple[Callable[[History], None], tuple[Found, ...], set[str]]] = [
    (lambda _: None, (), {"I1"}),
    (lambda _: None, (Found("j", "running"),), {"I1", "I3"}),
    (lambda _: None, (DONE, Found("k", "completed")), {"I1"}),
    (lambda h: h.enqueued("i", Answer.REFUSED), (DONE, Found("i", "failed")), {"I1"}),
    (lambda _: None, (DONE, DONE), {"I2"}),
    (two_of_a_key, (DONE, Found("i", "failed")), {"I2"}),
    (lambda h: h.unanswered("k"), (DONE, Found("x", "failed", key="k"),
                                   Found("y", "failed", key="k")), {"I2"}),
    (late, (DONE,), {"I3"}),
    (twice, (DONE,), {"I3"}),
    (again, (DONE,), {"I3"}),
    (lambda _: None, (Found("j", "failed"),), {"I3"}),
    (lambda _: None, (Found("j", "completed", result={"lease": "b"}),), {"I3"}),
    (lambda _: None, (Found("j", "completed"),), {"I3"}),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "found", "broken"), PLANTED)
def test_what_is_planted_is_seen(
    plant: Callable[[History], None], found: tuple[Found, ...], broken: set[str]
) -> None:
    history = fair()
    plant(history)
    assert set(rules(history, *found)) == broken
