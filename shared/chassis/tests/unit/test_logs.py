"""Lines are JSON, carry their ids, hold no token, and never fail their caller."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import structlog

from chassis import logs
from chassis.kernel.secret import Secret

TOKEN = "shpat_" + "0123456789abcdef" * 2  # of the form, and nobody's
JWT = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJnYXRld2F5In0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logs.clear()
    root.handlers[:] = handlers
    root.setLevel(level)


class Line:
    """Logs something and reads what came out."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, event: str = "happened", **fields: Any) -> dict[str, Any]:
        logs.configure(service="queue-service")
        logs.get("test").warning(event, **fields)
        return self.last()

    def last(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.capsys.readouterr().out.splitlines()[-1])
        return read


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(capsys)


@pytest.mark.parametrize(
    "secret",
    [
        TOKEN,
        "shpua_0123456789",
        "msk_live_0123456789abcdefghij",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        JWT,
    ],
)
def test_tokens_are_scrubbed_wherever_they_stand(secret: str) -> None:
    for text in (secret, f"Bearer {secret}", f'{{"token":"{secret}"}}', f"x={secret};"):
        assert secret not in logs.scrub(text)
        assert "[redacted]" in logs.scrub(text)


def test_passwords_in_urls_are_scrubbed_and_the_rest_stays() -> None:
    scrubbed = logs.scrub("cannot reach postgresql://app:hunter2@db.example:5432/x")
    assert scrubbed == "cannot reach postgresql://[redacted]@db.example:5432/x"
    assert logs.scrub("redis://:hunter2@cache:6379/0") == "redis://[redacted]@cache:6379/0"


def test_ordinary_text_is_left_alone() -> None:
    for text in ("https://example.com/a@b", "Γεια σου", "shop a.myshopify.com", "eyJ"):
        assert logs.scrub(text) == text


def test_a_line_names_service_level_time_and_fields(line: Line) -> None:
    said = line(queue="sms", count=3)
    assert said["event"] == "happened"
    assert said["service"] == "queue-service"
    assert said["level"] == "warning"
    assert said["module"] == "test"
    assert said["ts"].endswith("Z")
    assert (said["queue"], said["count"]) == ("sms", 3)


def test_what_is_bound_is_on_every_line(line: Line) -> None:
    with logs.bound(job_id="j1"):
        assert line()["job_id"] == "j1"
    assert "job_id" not in line()


@dataclass
class Session:
    shop: str
    token: str = field(repr=False)


@pytest.mark.parametrize(
    "value",
    [TOKEN, [TOKEN], {"a": {"b": (TOKEN,)}}, {TOKEN}, Session(TOKEN, TOKEN), Session("s", TOKEN),
     ValueError(TOKEN), TOKEN.encode()],
)  # fmt: skip
def test_no_field_shows_a_token(line: Line, value: Any) -> None:
    assert TOKEN not in json.dumps(line(value=value))


def test_what_is_secret_by_type_needs_no_known_form(line: Line) -> None:
    token = Secret("of-no-known-form")
    said = line(value=token, many=[{"token": token}])
    assert (said["value"], said["many"]) == ("****", [{"token": "****"}])


def test_tracebacks_are_scrubbed(line: Line) -> None:
    try:
        raise ValueError(f"refused {TOKEN}")
    except ValueError as error:
        said = line(exc_info=error)
    assert "ValueError" in said["exception"]
    assert TOKEN not in said["exception"]


@pytest.mark.parametrize(
    "value",
    ["\ud800", 2**70, {1: "a", UUID(int=1): "b"}, object(), {"deep": "\udcff"}, float("nan"),
     {(1, 2): "\ud800"}],
)  # fmt: skip
def test_no_value_fails_the_caller(line: Line, value: Any) -> None:
    assert line(value=value)["event"] == "happened"


def test_lines_of_other_libraries_look_the_same(line: Line) -> None:
    logs.configure(service="queue-service")
    logging.getLogger("asyncio").error("broken %s", TOKEN)
    said = line.last()
    assert said["service"] == "queue-service"
    assert said["event"] == "broken [redacted]"


def test_quieter_than_the_level_is_not_said(line: Line) -> None:
    logs.configure(service="queue-service", level="ERROR")
    logs.get("test").warning("quiet")
    assert line.capsys.readouterr().out == ""
