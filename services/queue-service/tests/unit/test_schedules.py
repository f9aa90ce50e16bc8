"""What a schedule that is late makes up for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chassis.kernel import errors
from queue_service.core import schedules
from queue_service.core.schedules import Due, Schedule

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def schedule(*, missed: str = "last", overlap: str = "allow", due: datetime = NOON) -> Schedule:
    return Schedule(
        name="s", shop=None, cron="* * * * *", timezone="UTC", job={"kind": "k"}, missed=missed,
        overlap=overlap, enabled=True, next_fire_at=due, last_fire_at=None, last_job_id=None,
        created_at=NOON, updated_at=NOON,
    )  # fmt: skip


def plan(now: datetime, *, is_busy: bool = False, **how: str) -> schedules.Plan:
    return schedules.plan(Due(schedule(**how), is_busy), now)  # type: ignore[arg-type]


@pytest.mark.parametrize("missed", ["skip", "last", "all"])
def test_a_fire_in_time_is_made_whatever_the_policy(missed: str) -> None:
    made = plan(NOON + timedelta(seconds=3), missed=missed)
    assert list(made.fires) == [NOON]
    assert made.next_fire_at == NOON + timedelta(minutes=1)


def test_of_an_hour_that_was_missed_each_policy_makes_what_it_says() -> None:
    now = NOON + timedelta(hours=1, seconds=-1)
    newest = NOON + timedelta(minutes=59)
    assert list(plan(now, missed="last").fires) == [newest]
    every = list(plan(now, missed="all").fires)
    assert every == [NOON + timedelta(minutes=minute) for minute in range(60)]
    assert plan(now, missed="all").next_fire_at == NOON + timedelta(hours=1)


def test_skip_makes_the_newest_fire_only_if_it_is_not_late_itself() -> None:
    daily = replace(schedule(missed="skip"), cron="0 12 * * *")
    soon = NOON + timedelta(days=3, seconds=20)
    assert list(schedules.plan(Due(daily, False), soon).fires) == [NOON + timedelta(days=3)]
    late = schedules.plan(Due(daily, False), NOON + timedelta(days=3, hours=1))
    assert list(late.fires) == []
    assert late.next_fire_at == NOON + timedelta(days=4)


def test_what_is_made_up_for_is_bounded_and_ends_with_the_newest() -> None:
    now = NOON + timedelta(days=365)
    made = list(plan(now, missed="all").fires)
    assert len(made) == schedules.MAX_MISSED + 1
    assert made[:2] == [NOON, NOON + timedelta(minutes=1)]
    assert made[-1] == now
    assert made == sorted(set(made))


def test_with_overlap_skip_there_is_one_job_at_a_time() -> None:
    now = NOON + timedelta(minutes=5)
    assert list(plan(now, overlap="skip", is_busy=True).fires) == []
    assert plan(now, overlap="skip", is_busy=True).passed_over == 1
    assert len(plan(now, overlap="skip", missed="all").fires) == 1
    assert len(plan(now, overlap="allow", missed="all", is_busy=True).fires) == 6


def test_a_fire_has_the_same_job_whoever_makes_it() -> None:
    one = schedules.job_of(schedule(), NOON, NOON)
    two = schedules.job_of(schedule(), NOON, NOON + timedelta(hours=1))
    other = schedules.job_of(schedule(), NOON + timedelta(minutes=1), NOON)
    assert (one.id, one.fingerprint) == (two.id, two.fingerprint)
    assert one.id != other.id
    assert one.id.version == 5


def test_a_document_that_is_no_job_any_more_is_named() -> None:
    with pytest.raises(errors.Invalid):
        schedules.job_of(replace(schedule(), job={"kind": ""}), NOON, NOON)
