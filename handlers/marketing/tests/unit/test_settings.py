"""Which provider, told wrong in any way, is told at the start and without a secret."""

from pathlib import Path

import pytest

from mainstay.handler import WrongSettings
from marketing import senders, settings

TWILIO = {"SMS_PROVIDER": "twilio", "TWILIO_ACCOUNT_SID": "AC1", "TWILIO_AUTH_TOKEN": "hunter2",
          "SMS_FROM": "+1 212 555 0100"}  # fmt: skip


def refused(**environ: str) -> str:
    with pytest.raises(WrongSettings) as caught:
        settings.read(environ)
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


def test_a_sandbox_needs_its_address_alone() -> None:
    read = settings.read({"TWILIO_BASE_URL": "http://127.0.0.1:1/"})
    assert read.provider is settings.Provider.SANDBOX
    assert read.base_url == "http://127.0.0.1:1"


def test_the_real_provider_by_name() -> None:
    read = settings.read(TWILIO)
    assert read.base_url == "https://api.twilio.com"
    assert read.sender == "+12125550100"
    assert "hunter2" not in repr(read)


def test_everything_missing_is_told_at_once() -> None:
    told = refused(SMS_PROVIDER="twilio")
    for name in ("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "SMS_FROM"):
        assert name in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TWILIO_BASE_URL", "http://api.example.com"),
        ("TWILIO_BASE_URL", "https://u:hunter2@api.example.com"),
        ("TWILIO_BASE_URL", "https://api.example.com?x=1"),
        ("TWILIO_BASE_URL", "ftp://127.0.0.1"),
        ("TWILIO_BASE_URL", "http://localhost.evil.example"),
        ("SMS_PROVIDER", "pigeon"),
        ("TWILIO_ACCOUNT_SID", "AC/../1"),
        ("SMS_FROM", "Ο ανθοπώλης"),
        ("SMS_STATUS_CALLBACK_URL", "http://shop.example"),
        ("SMS_LIMITS", "sms-brand;sms-campaign"),
        ("SMS_LIMITS", "a,b,c,d,e,f,g,h"),
        ("SMS_CAMPAIGN", "C" * 256),
    ],
)
def test_wrong_values_are_named(name: str, value: str) -> None:
    assert name in refused(**{**TWILIO, name: value})


def test_further_limits_are_named_once_each() -> None:
    assert settings.read(TWILIO).limits == ()
    read = settings.read({**TWILIO, "SMS_LIMITS": "sms-brand, sms-campaign,,sms-brand"})
    assert read.limits == ("sms-brand", "sms-campaign")


def test_the_token_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("from the file\n")
    without = {name: value for name, value in TWILIO.items() if name != "TWILIO_AUTH_TOKEN"}
    read = settings.read({**without, "TWILIO_AUTH_TOKEN_FILE": str(file)})
    assert read.auth_token.get_secret_value() == "from the file"
    said = settings.read({**TWILIO, "TWILIO_AUTH_TOKEN_FILE": str(file)})
    assert said.auth_token.get_secret_value() == "hunter2", "what is said comes first"
    assert "TWILIO_AUTH_TOKEN_FILE" in refused(**without, TWILIO_AUTH_TOKEN_FILE="/nowhere")


def test_a_worker_that_sends_nothing_needs_nothing() -> None:
    settings.check_settings({})
    with pytest.raises(WrongSettings):
        settings.check_settings({"SMS_PROVIDER": "twilio"})


@pytest.mark.parametrize(
    ("sender", "kept"),
    [("+1 (212) 555-0100", "+12125550100"), ("12345", "12345"), (" Flowers ", "Flowers"),
     ("Spring 2026", "Spring 2026"), ("A&B", "A&B")],
)  # fmt: skip
def test_senders(sender: str, kept: str) -> None:
    assert senders.checked(sender) == kept


@pytest.mark.parametrize("sender", ["", "Άνθη", "Twelve chars", "+0123456", "!!", "1"])
def test_no_senders(sender: str) -> None:
    with pytest.raises(ValueError):
        senders.checked(sender)
