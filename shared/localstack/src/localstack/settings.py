"""The environment of `make run`, judged before anything starts; every fault is told at once.

What belongs to one service alone (QUEUE_*, SHOPIFY_* …) is checked here as far as its form goes
and handed on untouched.
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
    ValidationError,
)

from chassis import crypto
from chassis import settings as environment

DEFAULT_PORT_BASE = 18080
HIGHEST_OFFSET = 104
ADMIN_KEY_MIN = 32
LOOPBACK_NETWORK = "127.0.0.0/8"
CONCURRENCY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}=[1-9][0-9]{0,4}")


class SettingsError(Exception):
    """The environment cannot be run with. `faults`: one line each, never a value of a secret."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


class SmsProvider(StrEnum):
    SANDBOX = "sandbox"
    TWILIO = "twilio"


def _url_of(*schemes: str) -> AfterValidator:
    def check(value: SecretStr) -> SecretStr:
        if urlsplit(value.get_secret_value()).scheme not in schemes:
            raise ValueError(f"must begin with {' or '.join(f'{each}://' for each in schemes)}")
        return value

    return AfterValidator(check)


def _address(value: str) -> str:
    if value == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError("must be an IPv4 address of this machine") from None


def _networks(value: str) -> str:
    """Comma-separated CIDRs; `none` for no network at all."""
    networks = [] if value == "none" else [each.strip() for each in value.split(",")]
    for each in networks:
        try:
            ipaddress.ip_network(each)
        except ValueError:
            raise ValueError(f"{each!r} is not a network such as 10.0.0.0/8") from None
    return ",".join(networks)


def _concurrency(value: str) -> str:
    for each in value.split(","):
        if not CONCURRENCY.fullmatch(each.strip()):
            raise ValueError(f"{each.strip()!r} is not of the form sms=20")
    return value


def _shop_origin(value: str) -> str:
    if "{shop}" not in value:
        raise ValueError("must contain {shop}")
    environment.https_or_loopback(value.replace("{shop}", "shop.example"))
    return value


def _keyring(value: SecretStr) -> SecretStr:
    try:
        crypto.Keyring(value.get_secret_value())
    except ValueError:
        raise ValueError("must be name:base64 pairs of 32 bytes each, with commas") from None
    return value


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < ADMIN_KEY_MIN:
        raise ValueError(f"must have at least {ADMIN_KEY_MIN} characters")
    return value


Origin = Annotated[str, AfterValidator(environment.https_or_loopback)]
Upper = Annotated[str, BeforeValidator(str.upper), Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")]


class StackSettings(BaseModel):
    """Field names are the environment's in lower case; absent services' values stay None."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    mainstay_home: Path | None = Field(None, description="All state; default by who runs it")
    mainstay_bind: Annotated[str, AfterValidator(_address)] = Field(
        "127.0.0.1", description="Address that everything listens on"
    )
    mainstay_port_base: int = Field(
        DEFAULT_PORT_BASE, ge=1024, le=65535 - HIGHEST_OFFSET, description="Port of the gateway"
    )
    mainstay_admin_key: Annotated[SecretStr, AfterValidator(_long_enough)] | None = Field(
        None, description="Bootstrap key with all scopes; generated into the home"
    )
    database_url: Annotated[SecretStr, _url_of("postgresql", "postgres")] | None = Field(
        None, description="Admin DSN of a server that exists; else one is embedded"
    )
    redis_url: Annotated[SecretStr, _url_of("redis", "rediss", "unix")] | None = Field(
        None, description="Optional accelerator"
    )
    amqp_url: Annotated[SecretStr, _url_of("amqp", "amqps")] | None = Field(
        None, description="Optional bus"
    )
    trusted_hops: int = Field(0, ge=0, le=16, description="Proxies in front of the gateway")
    egress_allowed_networks: Annotated[str, AfterValidator(_networks)] = Field(
        LOOPBACK_NETWORK, description="CIDRs where plain http and private addresses are allowed"
    )
    drain_timeout_s: float = Field(15.0, gt=0, le=300, description="Time for running work to end")
    log_level: Upper = Field("INFO", description="Of every process")
    queue_concurrency: Annotated[str, AfterValidator(_concurrency)] | None = Field(
        None, description="Jobs at a time per queue and worker process"
    )
    queue_poll_interval_s: float | None = Field(None, gt=0, le=60, description="Fallback poll")
    queue_retention_completed_d: int | None = Field(None, ge=1, le=3650, description="Days kept")
    queue_retention_failed_d: int | None = Field(None, ge=1, le=3650, description="Days kept")
    sms_provider: SmsProvider = Field(SmsProvider.SANDBOX, description="Who sends the messages")
    twilio_base_url: Origin | None = Field(None, description="Default: the provider's own")
    twilio_account_sid: str | None = Field(None, description="Needed by SMS_PROVIDER=twilio")
    twilio_auth_token: SecretStr | None = Field(None, description="Needed by SMS_PROVIDER=twilio")
    shopify_app_url: Origin | None = Field(None, description="Public address of the gateway")
    shopify_shop_origin: Annotated[str, AfterValidator(_shop_origin)] | None = Field(
        None, description="https://{shop}, or a mock's address on loopback"
    )
    session_keys: Annotated[SecretStr, AfterValidator(_keyring)] | None = Field(
        None, description="k2:base64,k1:base64, the first seals; generated into the home"
    )
    queue_keys: Annotated[SecretStr, AfterValidator(_keyring)] | None = Field(
        None, description="The same for the secrets of push handlers"
    )


def load(environ: Mapping[str, str]) -> StackSettings:
    """Read, or raise SettingsError. Empty means unset; NAME_FILE gives NAME by a file."""
    given, faults = _with_files(environ)
    values: dict[str, Any] = {
        name: given[name.upper()] for name in StackSettings.model_fields if given.get(name.upper())
    }
    faults += _missing_for_twilio(values)
    try:
        settings = StackSettings.model_validate(values)
    except ValidationError as error:
        faults += [_told(each["loc"], each["msg"]) for each in error.errors()]
        raise SettingsError(faults) from None
    if faults:
        raise SettingsError(faults)
    return settings


def _told(location: tuple[int | str, ...], message: str) -> str:
    return f"{str(location[0]).upper()}: {message.removeprefix('Value error, ')}"


def _missing_for_twilio(values: Mapping[str, Any]) -> list[str]:
    if values.get("sms_provider") != SmsProvider.TWILIO:
        return []
    needed = ("twilio_account_sid", "twilio_auth_token")
    return [
        f"{name.upper()}: needed by SMS_PROVIDER=twilio" for name in needed if not values.get(name)
    ]


def _with_files(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    given, faults = dict(environ), []
    for field in StackSettings.model_fields:
        name = f"{field.upper()}_FILE"
        if environ.get(field.upper()) or not environ.get(name):
            continue
        try:
            given[field.upper()] = Path(environ[name]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{name}: cannot be read: {type(error).__name__}")
    return given, faults
