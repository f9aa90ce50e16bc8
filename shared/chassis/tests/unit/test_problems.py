"""Failures by their name: from a fault to an answer, and back at the other end of a call."""

import json
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from chassis.kernel import errors
from chassis.web import problems

KINDS: list[tuple[type[errors.Fault], int, str]] = [
    (errors.Malformed, 400, "malformed"),
    (errors.Unauthenticated, 401, "unauthenticated"),
    (errors.Denied, 403, "denied"),
    (errors.NotFound, 404, "not_found"),
    (errors.Conflict, 409, "conflict"),
    (errors.Outdated, 412, "version_conflict"),
    (errors.TooLarge, 413, "too_large"),
    (errors.Unsupported, 415, "unsupported_media_type"),
    (errors.Invalid, 422, "invalid"),
    (errors.Limited, 429, "rate_limited"),
    (errors.Broken, 500, "internal_error"),
    (errors.Unavailable, 503, "unavailable"),
    (errors.Ambiguous, 503, "outcome_unknown"),
    (errors.Late, 504, "deadline_exceeded"),
]


def document(answer: web.Response) -> dict[str, Any]:
    assert answer.content_type == "application/problem+json"
    read: dict[str, Any] = json.loads(bytes(answer.body or b""))
    return read


@pytest.mark.parametrize(("kind", "status", "code"), KINDS)
def test_each_kind_has_its_status_and_code(
    kind: type[errors.Fault], status: int, code: str
) -> None:
    answer = problems.response(kind("what happened"))
    told = document(answer)
    assert answer.status == told["status"] == status
    assert told["code"] == code
    assert told["type"] == f"urn:mainstay:problem:{code}"
    assert told["detail"] == "what happened"
    assert len(told["trace_id"]) == 32


@pytest.mark.parametrize(("kind", "status", "code"), KINDS)
def test_the_other_end_of_a_call_has_the_same_fault_again(
    kind: type[errors.Fault], status: int, code: str
) -> None:
    flaw = errors.Flaw("/args/0", "wrong")
    answer = problems.response(kind("why", flaws=[flaw], retry_after_s=7, members={"reason": "r"}))
    with pytest.raises(errors.Fault) as caught:
        problems.raise_for(status, bytes(answer.body or b""), answer.headers)
    fault = caught.value
    assert problems.status_of(fault) == status
    assert (fault.code, fault.detail, fault.flaws) == (code, "why", (flaw,))
    assert (fault.retry_after_s, fault.members) == (7, {"reason": "r"})
    assert isinstance(fault, kind) or kind is errors.Broken


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'"no"', b"null", b'{"errors":[1],"code":5}', b'{"errors":{"a":1}}'],
)
@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, errors.NotFound), (502, errors.Unavailable), (503, errors.Unavailable),
     (429, errors.Limited), (500, errors.Fault), (418, errors.Invalid)],
)  # fmt: skip
def test_an_answer_that_is_no_problem_document_still_has_a_kind(
    body: bytes, status: int, kind: type[errors.Fault]
) -> None:
    with pytest.raises(kind) as caught:
        problems.raise_for(status, body, {"Retry-After": "²"})
    assert type(caught.value) is kind
    assert caught.value.code == kind.code


@pytest.mark.parametrize("status", [200, 202, 204, 304])
def test_a_good_answer_raises_nothing(status: int) -> None:
    problems.raise_for(status, b"{}", {})


@given(st.floats(0, 10_000))
def test_retry_after_is_whole_seconds_and_never_too_early(seconds: float) -> None:
    answer = problems.response(errors.Limited("slow down", retry_after_s=seconds))
    told = int(answer.headers["Retry-After"])
    assert told >= max(1, seconds)
    assert told < seconds + 2


def test_unavailable_always_says_when_to_come_back() -> None:
    assert problems.response(errors.Unavailable("away")).headers["Retry-After"] == "1"


def test_who_is_not_known_is_told_how_to_say_it() -> None:
    assert problems.response(errors.Unauthenticated()).headers["WWW-Authenticate"] == "Bearer"


def test_only_what_a_repeat_can_help_is_retryable() -> None:
    retryable = {
        code for kind, _, code in KINDS if document(problems.response(kind()))["retryable"]
    }
    assert retryable == {"rate_limited", "unavailable", "outcome_unknown", "deadline_exceeded"}


def test_a_special_code_and_headers_are_kept() -> None:
    answer = problems.response(
        errors.Unavailable("no", code="database_unavailable", headers={"Degraded": "postgres"})
    )
    assert document(answer)["code"] == "database_unavailable"
    assert answer.headers["Degraded"] == "postgres"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (web.HTTPNotFound(), "not_found"),
        (web.HTTPMethodNotAllowed("PUT", ["GET"]), "method_not_allowed"),
        (web.HTTPRequestEntityTooLarge(1, 2), "too_large"),
        (web.HTTPExpectationFailed(), "malformed"),
        (web.HTTPInternalServerError(), "internal_error"),
    ],
)
def test_the_frameworks_refusals_are_in_our_words(refusal: web.HTTPException, code: str) -> None:
    answer = problems.from_framework(refusal)
    assert answer.status == refusal.status
    assert document(answer)["code"] == code


def test_a_refused_method_names_the_ones_that_are_taken() -> None:
    answer = problems.from_framework(web.HTTPMethodNotAllowed("PUT", ["GET", "POST"]))
    assert answer.headers["Allow"] == "GET,POST"
