"""What a person reads at the end, and what counts as right."""

import io
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from localstack import report
from localstack.campaign import Outcome
from mainstay.answers import Batch, Job, JobError, RejectedRow, Uploaded

A, B = "+306912345678", "+442079460101"
BATCH = Batch(id=uuid4(), name="spring sale", state="finished", total=2, completed=2)
JOB = Job(id=uuid4(), kind="campaign.report", state="completed")
GOOD = Outcome(
    batch=BATCH,
    uploaded=Uploaded(
        accepted=2, duplicates=0, rejected=[RejectedRow(line=7, detail="no number")], rows=3
    ),
    on_complete=[JOB],
    expected=frozenset({A, B}),
    messages={A: 1, B: 1},
    system={"roads": {"http": "open"}},
    upload_s=0.5,
    sending_s=2.0,
)


def test_all_is_well() -> None:
    assert GOOD.faults == []
    lines = report.outcome_lines(GOOD)
    assert lines[-1] == "every recipient has exactly one message"
    text = "\n".join(lines)
    assert "spring sale: 2 messages to 2 recipients" in text
    assert "rows: 3 read, 2 taken, 1 refused" in text
    assert "line 7: no number" in text
    assert "on_complete: campaign.report completed" in text
    assert "6 rows/s up, 1 messages/s out" in text


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"messages": {A: 1}}, "1 recipients without a message"),
        ({"messages": {A: 2, B: 1}}, "1 recipients with more than one message"),
        ({"messages": {A: 1, B: 1, "+1": 1}}, "1 messages to numbers that are no recipients"),
        ({"on_complete": []}, "on_complete is missing"),
        ({"on_complete": [JOB, JOB]}, "on_complete is completed, completed"),
        ({"batch": BATCH.model_copy(update={"state": "closed"})}, "the batch is closed"),
    ],
)
def test_each_way_to_be_wrong_is_said(changed: dict[str, Any], fault: str) -> None:
    outcome = replace(GOOD, **changed)
    assert outcome.faults == [fault]
    lines = report.outcome_lines(outcome)
    assert lines[-1] == f"wrong: {fault}"
    assert "every recipient" not in "\n".join(lines)


def test_failed_jobs_are_listed_with_their_reason() -> None:
    failed = Job.model_validate({
        "id": uuid4(), "state": "failed", "args": {"to": B},
        "errors": [JobError.model_validate({
            "attempt": 1, "at": "2026-01-01T00:00:00Z", "type": "ambiguous",
            "message": "it may have been sent", "retryable": False,
        })],
    })  # fmt: skip
    text = "\n".join(report.outcome_lines(replace(GOOD, failed=[failed])))
    assert f"{B} failed, ambiguous: it may have been sent" in text


def test_progress_without_a_terminal_is_a_line_when_something_changed() -> None:
    out = io.StringIO()
    screen = report.Screen(Console(file=out, width=40))
    for done in (1, 1, 2):
        state = "finished" if done == 2 else "open"
        screen.progress(BATCH.model_copy(update={"completed": done, "state": state}))
    screen.end_progress()
    assert out.getvalue().splitlines() == ["· 1 of 2 sent, 0 running", "· 2 of 2 sent, 0 running"]


def test_long_lines_are_not_broken() -> None:
    out = io.StringIO()
    report.Screen(Console(file=out, width=20)).line("[key] " + "x" * 100)
    assert out.getvalue() == "[key] " + "x" * 100 + "\n"
