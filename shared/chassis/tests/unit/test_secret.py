"""What is secret by type is shown nowhere, and is still the text it is."""

import copy
import json
import logging
import pickle
from dataclasses import dataclass

import orjson
import pytest

from chassis.kernel.secret import Secret, reveal

TEXT = "a-token-of-no-known-form"
SECRET = Secret(TEXT)


@dataclass(frozen=True)
class Holder:
    token: str


@pytest.mark.parametrize(
    "shown",
    [
        repr(SECRET),
        str(SECRET),
        f"{SECRET}",
        f"{SECRET!r:>40}",
        "%s" % SECRET,  # noqa: UP031 - as the standard library's loggers do
        "{:.30}".format(SECRET),  # noqa: UP032
        repr([SECRET]),
        repr({"token": SECRET}),
        repr(Holder(SECRET)),
        repr(ValueError(SECRET)),
        str(ValueError(SECRET)),
    ],
)
def test_nothing_that_shows_values_shows_it(shown: str) -> None:
    assert TEXT not in shown
    assert "****" in shown


def test_a_log_line_does_not_either(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("anybody").warning("token %s of %r", SECRET, SECRET)
    assert caplog.messages == ["token **** of ****"]


def test_what_works_on_text_works_on_the_text() -> None:
    assert SECRET == TEXT
    assert hash(SECRET) == hash(TEXT)
    assert SECRET.encode() == TEXT.encode()
    assert json.loads(orjson.dumps({"token": SECRET})) == {"token": TEXT}
    assert type(reveal(SECRET)) is str
    assert reveal(SECRET) == reveal(TEXT) == TEXT


def test_it_is_not_lost_on_the_way() -> None:
    for other in (
        Secret(SECRET),
        copy.deepcopy(SECRET),
        pickle.loads(pickle.dumps(SECRET)),
    ):
        assert type(other) is Secret
        assert reveal(other) == TEXT
