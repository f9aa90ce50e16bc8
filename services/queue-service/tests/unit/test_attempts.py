"""From how an attempt ended to what is written down about it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import ids
from mainstay import handler
from queue_service.core.attempts import (
    MAX_DELAY_S,
    NO_HANDLER_WAITS,
    Claimed,
    Ended,
    Ending,
    Interrupted,
    Raised,
    Verb,
    settlement,
    without_handler,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = Claimed(
    id=ids.new_id(),
    lease_no=7,
    lane=1,
    queue="work",
    kind="test",
    shop=None,
    attempt=1,
    max_attempts=3,
    snoozes=0,
    timeout_s=None,
    retry={"base_s": 5.0, "factor": 2.0, "max_s": 60.0, "jitter": 0.5},
    tags=(),
    batch_id=None,
    created_at=NOW,
    run_at=NOW,
    args={},
)


def settle(ending: Ending, **changes: Any) -> Any:
    return settlement(JOB._replace(**changes), Ended(ending, NOW, 0.25), uniform=lambda _a, b: b)


@pytest.mark.parametrize(
    ("ending", "verb", "unmark", "error_type"),
    [
        (handler.Completed({"a": 1}), Verb.COMPLETED, True, None),
        (handler.Snooze(3.0), Verb.SNOOZE, True, None),
        (handler.Retry(error="later"), Verb.RETRY, True, "retry"),
        (handler.Cancel("unwanted"), Verb.CANCELLED, True, "cancelled"),
        (handler.Discard("wrong"), Verb.FAILED, True, "discarded"),
        (Raised("timeout", "late", True), Verb.RETRY, False, "timeout"),
        (Raised("ambiguous", "maybe", False), Verb.FAILED, True, "ambiguous"),
        (Interrupted(), Verb.RELEASE, False, None),
    ],
)
def test_each_ending_has_its_verb(
    ending: Ending, verb: Verb, unmark: bool, error_type: str | None
) -> None:
    found = settle(ending)
    assert (found.id, found.lease_no) == (JOB.id, 7)
    assert (found.verb, found.unmark) == (verb, unmark)
    assert (found.error or {}).get("type") == error_type


def test_the_marks_of_a_job_that_is_over_go_if_there_can_be_any() -> None:
    assert not settle(handler.Completed(), lease_no=1).unmark
    marked = Ended(handler.Completed(), NOW, 0.25, is_marked=True)
    assert settlement(JOB._replace(lease_no=1), marked).unmark


def test_an_error_tells_attempt_time_and_duration() -> None:
    found = settle(Raised("ValueError", "no\x00 such", True))
    assert found.error == {
        "attempt": 1,
        "at": "2026-01-01T00:00:00Z",
        "type": "ValueError",
        "message": "no such",
        "retryable": True,
        "duration_ms": 250,
    }


@pytest.mark.parametrize("ending", [handler.Retry(), Raised("timeout", "late", True)])
def test_the_last_attempt_is_not_tried_again(ending: Ending) -> None:
    assert settle(ending, attempt=3).verb is Verb.FAILED
    assert settle(ending, attempt=2).verb is Verb.RETRY


def test_a_snooze_is_no_attempt_even_at_the_last() -> None:
    assert settle(handler.Snooze(1.0), attempt=3).verb is Verb.SNOOZE


@given(st.integers(1, 99))
def test_retries_wait_longer_each_time_up_to_the_limit(attempt: int) -> None:
    found = settle(Raised("x", "y", True), attempt=attempt, max_attempts=100)
    assert found.delay_s == min(60.0, 5.0 * 2.0 ** (attempt - 1))


def test_the_handlers_own_delay_wins() -> None:
    assert settle(handler.Retry(delay_s=1.5)).delay_s == 1.5
    assert settle(handler.Retry(delay_s=-4)).delay_s == 0.0


def test_without_a_handler_a_job_waits_ever_longer_and_a_day_at_most() -> None:
    waits = [without_handler(JOB._replace(snoozes=n), NOW, lacking_s=0.0) for n in (0, 1, 6, 1000)]
    assert waits == [handler.Snooze(s) for s in (5.0, 10.0, 300.0, 300.0)]
    late = without_handler(
        JOB._replace(snoozes=290), NOW + timedelta(hours=24, seconds=1), lacking_s=3600.0
    )
    assert isinstance(late, Raised)
    assert (late.type, late.retryable) == ("no_handler", False)


def test_an_old_job_that_had_a_handler_until_now_waits_for_it() -> None:
    late = NOW + timedelta(days=30)
    assert without_handler(JOB._replace(snoozes=3), late, lacking_s=9e9) == handler.Snooze(40.0)
    # Its own waits may have been many; but this worker may have been started a minute ago.
    assert without_handler(JOB._replace(snoozes=999), late, lacking_s=60.0) == handler.Snooze(300.0)


def test_waiting_for_a_handler_all_day_is_so_many_waits() -> None:
    waited_s, snoozes = 0.0, 0
    while isinstance(
        wait := without_handler(JOB._replace(snoozes=snoozes), NOW, lacking_s=0.0), handler.Snooze
    ):
        waited_s, snoozes = waited_s + wait.delay_s, snoozes + 1
        if waited_s > 86_400:
            break
    assert NO_HANDLER_WAITS <= snoozes < NO_HANDLER_WAITS * 1.1


@pytest.mark.parametrize(("age_s", "verb"), [(59.0, Verb.RETRY), (61.0, Verb.FAILED)])
def test_a_job_that_is_too_old_is_not_tried_again(age_s: float, verb: Verb) -> None:
    job = JOB._replace(retry={**JOB.retry, "for_s": 60.0})
    ended = Ended(Raised("boom", "it broke", True), job.created_at + timedelta(seconds=age_s), 0.1)
    assert settlement(job, ended).verb is verb
    assert settlement(JOB, ended).verb is Verb.RETRY


@pytest.mark.parametrize("delay_s", [1e12, float("inf")])
def test_nothing_is_put_off_beyond_the_calendar(delay_s: float) -> None:
    for outcome in (handler.Snooze(delay_s), handler.Retry(delay_s=delay_s)):
        assert settle(outcome).delay_s == MAX_DELAY_S
