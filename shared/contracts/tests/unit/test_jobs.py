"""What crosses the wire: strict about what is said, lenient about what is answered."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pydantic
import pytest

from chassis.kernel import errors, ids
from chassis.web import body
from contracts import jobs

JOB = {"kind": "sms.send"}


def parse(model: type[pydantic.BaseModel], document: dict[str, Any]) -> Any:
    return body.parse(json.dumps(document).encode(), model)


def refused(model: type[pydantic.BaseModel], document: dict[str, Any]) -> set[str]:
    with pytest.raises(errors.Invalid) as caught:
        parse(model, document)
    return {flaw.pointer for flaw in caught.value.flaws}


def test_the_least_a_job_says() -> None:
    job = parse(jobs.JobCreate, JOB)
    assert (job.queue, job.priority, job.args, job.id) == ("default", 5, {}, None)


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"kind": ""}, "/kind"),
        ({"kind": "two words"}, "/kind"),
        ({"kind": "x" * 129}, "/kind"),
        ({"queue": "Capital"}, "/queue"),
        ({"queue": "../etc"}, "/queue"),
        ({"priority": 10}, "/priority"),
        ({"priority": "5"}, "/priority"),
        ({"delay_s": -1}, "/delay_s"),
        ({"delay_s": jobs.YEAR_S + 1}, "/delay_s"),
        ({"run_at": "2026-01-01T00:00:00"}, "/run_at"),
        ({"run_at": "tomorrow"}, "/run_at"),
        ({"max_attempts": 0}, "/max_attempts"),
        ({"timeout_s": 0}, "/timeout_s"),
        ({"shop": " "}, "/shop"),
        ({"tags": ["x"] * 21}, "/tags"),
        ({"args": []}, "/args"),
        ({"retry": {"factor": 0.5}}, "/retry/factor"),
        ({"retry": {"base": 1}}, "/retry/base"),
        ({"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, "x"))}, "/id"),
        ({"id": "7"}, "/id"),
        ({"idd": "x"}, "/idd"),
        ({"run_at": "2026-01-01T00:00:00Z", "delay_s": 1}, ""),
    ],
)
def test_each_wrong_member_is_named(said: dict[str, Any], pointer: str) -> None:
    assert pointer in refused(jobs.JobCreate, {**JOB, **said})


@pytest.mark.parametrize("given", [uuid.uuid4(), ids.new_id()])
def test_callers_bring_their_own_ids(given: uuid.UUID) -> None:
    assert parse(jobs.JobCreate, {**JOB, "id": str(given)}).id == given


def test_shops_are_written_one_way() -> None:
    assert parse(jobs.JobCreate, {**JOB, "shop": " Shop.MyShopify.com "}).shop == (
        "shop.myshopify.com"
    )


@pytest.mark.parametrize("said", ["2026-01-01T12:00:00Z", "2026-01-01T14:00:00+02:00"])
def test_moments_are_the_same_in_every_offset(said: str) -> None:
    job = parse(jobs.JobCreate, {**JOB, "run_at": said})
    assert job.run_at == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert parse(jobs.JobCreate, json.loads(job.model_dump_json())).run_at == job.run_at


def test_every_state_is_live_or_final() -> None:
    assert set(jobs.LIVE_STATES) | set(jobs.FINAL_STATES) == set(jobs.JobState)
    assert not set(jobs.LIVE_STATES) & set(jobs.FINAL_STATES)


def test_an_answer_with_news_is_still_read() -> None:
    told = jobs.Accepted.model_validate({"id": str(ids.new_id()), "since": "tomorrow"})
    assert told.state == "accepted"


def test_a_batch_needs_a_name_and_a_kind() -> None:
    assert {"/name", "/kind"} <= refused(jobs.BatchCreate, {})
    batch = parse(jobs.BatchCreate, {"name": "spring", "kind": "sms.send",
                                     "defaults": {"priority": 3},
                                     "on_complete": {"kind": "campaign.report"}})  # fmt: skip
    assert batch.defaults.priority == 3
    assert batch.on_complete.kind == "campaign.report"
    assert "/defaults/kind" in refused(
        jobs.BatchCreate, {"name": "s", "kind": "k", "defaults": {"kind": "x"}}
    )
