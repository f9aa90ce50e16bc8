"""Which SMS provider, from the environment of the worker.

| variable | meaning |
|---|---|
| `SMS_PROVIDER` | `sandbox` (default) or `twilio`: any endpoint of that shape |
| `TWILIO_BASE_URL` | https, or http on loopback; for `twilio` the provider's own by default |
| `TWILIO_ACCOUNT_SID`, `TWILIO_AUTH_TOKEN` | needed for `twilio`; the token also as `_FILE` |
| `SMS_FROM` | the sender when a job names none; needed for `twilio` |
| `SMS_LIMITS` | further policies that segments count under, e.g. `sms-brand,sms-campaign` |
| `SMS_CAMPAIGN` | the campaign registered with the carriers: the `user` of those policies |
| `SMS_STATUS_CALLBACK_URL` | public address of the gateway; asks for delivery reports |
"""

import ipaddress
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from mainstay import flaws
from mainstay.handler import WrongSettings
from marketing import senders

# Beside the sender's own, as many as one reservation takes.
MAX_LIMITS = 7
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Provider(StrEnum):
    SANDBOX = "sandbox"
    TWILIO = "twilio"


DEFAULTS: dict[str, dict[str, str]] = {
    Provider.SANDBOX: {
        "TWILIO_ACCOUNT_SID": "AC00000000000000000000000000000000",
        "TWILIO_AUTH_TOKEN": "sandbox",
        "SMS_FROM": "+15005550006",
    },
    Provider.TWILIO: {"TWILIO_BASE_URL": "https://api.twilio.com"},
}


def _safe_url(url: str) -> str:
    """What goes there carries a password and phone numbers."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError("is not a plain URL like https://host[:port][/path]")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError("must be https, or http on loopback")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names(said: object) -> tuple[str, ...]:
    """Policies, told apart by commas."""
    names = tuple(name for one in str(said).split(",") if (name := one.strip()))
    if len(names) > MAX_LIMITS or not all(map(_NAME.fullmatch, names)):
        raise ValueError(f"give {MAX_LIMITS} names of policies at most, between commas")
    return tuple(dict.fromkeys(names))


SafeUrl = Annotated[str, AfterValidator(_safe_url)]


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    provider: Provider = Field(alias="SMS_PROVIDER")
    base_url: SafeUrl = Field(alias="TWILIO_BASE_URL")
    account_sid: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{2,64}$")] = Field(
        alias="TWILIO_ACCOUNT_SID"
    )
    auth_token: SecretStr = Field(alias="TWILIO_AUTH_TOKEN")
    sender: Annotated[str, AfterValidator(senders.checked)] = Field(alias="SMS_FROM")
    limits: Annotated[tuple[str, ...], BeforeValidator(_names)] = Field((), alias="SMS_LIMITS")
    campaign: Annotated[str, StringConstraints(max_length=255)] | None = Field(
        None, alias="SMS_CAMPAIGN"
    )
    status_callback_url: SafeUrl | None = Field(None, alias="SMS_STATUS_CALLBACK_URL")


def check_settings(environ: Mapping[str, str]) -> None:
    """Raises `WrongSettings` when something said is wrong; saying nothing of SMS is not."""
    if environ.get("SMS_PROVIDER") or environ.get("TWILIO_BASE_URL"):
        read(environ)


def read(environ: Mapping[str, str]) -> Settings:
    """Raises `WrongSettings` with every problem at once; none repeats a value."""
    said: dict[str, Any] = {name: value for name, value in environ.items() if value.strip()}
    said.setdefault("SMS_PROVIDER", Provider.SANDBOX)
    if (path := said.get("TWILIO_AUTH_TOKEN_FILE")) and "TWILIO_AUTH_TOKEN" not in said:
        said["TWILIO_AUTH_TOKEN"] = _secret(path)
    try:
        return Settings.model_validate(DEFAULTS.get(said["SMS_PROVIDER"], {}) | said)
    except ValidationError as error:
        raise WrongSettings(
            f"{flaw.pointer.lstrip('/')}: {flaw.detail}" for flaw in flaws.flaws_of(error)
        ) from None


def _secret(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongSettings([f"TWILIO_AUTH_TOKEN_FILE: {type(error).__name__}"]) from None
