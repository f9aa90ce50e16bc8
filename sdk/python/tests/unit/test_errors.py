"""An answer that is no 2xx, by its name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import errors
from mainstay.flaws import Flaw

PROBLEM = {
    "type": "urn:mainstay:problem:invalid",
    "title": "Unprocessable",
    "status": 422,
    "detail": "/args: wrong",
    "code": "invalid",
    "trace_id": "0af7",
    "retryable": False,
    "errors": [{"pointer": "/args", "detail": "wrong"}],
}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid), (401, errors.Unauthenticated), (403, errors.Denied),
        (404, errors.NotFound), (409, errors.Conflict), (413, errors.Invalid),
        (415, errors.Invalid), (422, errors.Invalid), (429, errors.Limited),
        (500, errors.Unavailable), (503, errors.Unavailable), (504, errors.Unavailable),
        (418, errors.ApiError), (302, errors.ApiError),
    ],
)  # fmt: skip
def test_each_status_has_its_kind(status: int, kind: type[errors.ApiError]) -> None:
    assert type(errors.from_answer(status, {}, b"{}")) is kind


def test_everything_the_document_says_is_kept() -> None:
    error = errors.from_answer(422, {"Retry-After": "7"}, json.dumps(PROBLEM).encode())
    assert (error.status, error.code, error.trace_id) == (422, "invalid", "0af7")
    assert error.errors == (Flaw("/args", "wrong"),)
    assert error.retry_after_s == 7
    assert str(error) == "422 invalid: /args: wrong (/args: wrong)"


@given(st.integers(300, 599), st.binary() | st.sampled_from([b"[]", b'{"errors":{}}', b'"x"']))
def test_any_other_body_still_gives_an_error_with_its_status(status: int, body: bytes) -> None:
    error = errors.from_answer(status, {}, body)
    assert error.status == status
    assert error.code
    assert error.detail


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None), ("nan", None),
     ("inf", None), ("", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
     ("Wed, 21 Oct 2015 07:28:00", 0.0)],
)  # fmt: skip
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert errors.retry_after_s(value) == seconds


@given(st.text())
def test_no_header_breaks_it(value: str) -> None:
    told = errors.retry_after_s(value)
    assert told is None or told >= 0
