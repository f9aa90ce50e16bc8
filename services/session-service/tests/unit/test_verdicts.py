"""When a renewal that failed is tried again, and which pairs come due when."""

from datetime import UTC, datetime, timedelta

import pytest

from session_service.core import verdicts
from session_service.core.answers import Answer, Verdict
from session_service.core.grants import Held, State
from session_service.core.record import ShopifySession, Tokens
from session_service.core.used import Used
from testkit.clock import FakeClock

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


def session(n: int = 0, *, left_s: float = 600, now: datetime = NOW) -> ShopifySession:
    shop = f"shop-{n}.myshopify.com"
    return ShopifySession(
        id=f"offline_{shop}",
        shop=shop,
        is_online=False,
        user_id=None,
        scope=None,
        tokens=Tokens(access="a", expires_ms=int((now.timestamp() + left_s) * 1000)),
        rest={},
        gen=1,
    )


def waits_s(
    verdict: Verdict, *, left_s: float, failures: int = 0, refusals: int = 0
) -> float | None:
    state = State(granted_at=NOW, failures=failures, refusals=refusals)
    later = verdicts.put_off(
        Answer(verdict=verdict), Held(session=session(left_s=left_s), state=state), NOW
    )
    return None if later is None else (later.until - NOW).total_seconds()


def test_back_off_grows_to_five_minutes_and_is_thirty_seconds_once_the_token_has_ended() -> None:
    living = [waits_s(Verdict.TRANSIENT, left_s=3600, failures=n) for n in (0, 1, 2, 8, 9, 60)]
    assert living == [1, 2, 4, 256, 300, 300]
    ended = [waits_s(Verdict.TRANSIENT, left_s=-1, failures=n) for n in (0, 4, 5, 60)]
    assert ended == [1, 16, 30, 30]
    assert waits_s(Verdict.TRANSIENT, left_s=90, failures=60) == 90
    assert waits_s(Verdict.CLIENT, left_s=-1) == 30
    assert waits_s(Verdict.CLIENT, left_s=3600) == 300


@pytest.mark.parametrize("verdict", [Verdict.GONE, Verdict.REFUSED])
def test_three_refusals_over_a_day_are_the_end(verdict: Verdict) -> None:
    waits = [waits_s(verdict, left_s=-1, refusals=n, failures=50) for n in range(3)]
    assert waits == [8 * 3600, 8 * 3600, None]


def test_a_frozen_shop_is_asked_by_the_hour_and_a_dead_token_never_again() -> None:
    assert waits_s(Verdict.AWAY, left_s=-1, failures=50, refusals=2) == 3600
    assert waits_s(Verdict.DEAD, left_s=-1) is None


def test_pairs_in_use_come_due_five_to_ten_minutes_before_their_end_and_not_together() -> None:
    clock = FakeClock()
    used = Used(clock)
    for n in range(200):
        used.now(session(n, left_s=3600, now=clock.now()))
    clock.advance(3600 - 600)
    assert used.due() == []
    due = []
    for _ in range(10):
        clock.advance(30)
        due.append(len(used.due()))
    assert sum(due) == 200
    assert max(due) < 50


def test_what_was_used_more_than_an_hour_ago_is_forgotten() -> None:
    clock = FakeClock()
    used = Used(clock)
    used.now(session(left_s=3600, now=clock.now()))
    clock.advance(timedelta(hours=1, seconds=1).total_seconds())
    assert used.due() == []


def test_another_pair_has_another_time() -> None:
    clock = FakeClock()
    used = Used(clock)
    used.now(session(left_s=0, now=clock.now()))
    assert [due.gen for due in used.due()] == [1]
    assert used.due() == []
