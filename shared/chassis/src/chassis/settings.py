"""Environment → one frozen model per process.

Every name may also be given as NAME_FILE: the value is then the content of that file, which is how
secrets reach a container. All faults are reported together; the dump at start is redacted by type.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from chassis.kernel.shopify import Shops

LOOPBACK_NAMES = frozenset({"localhost"})


class SettingsError(Exception):
    """The environment cannot be served with; the text lists every fault, never a value."""


class Settings(BaseModel):
    """What every service needs. Field names are the environment's names in lower case."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    mainstay_bind: str = Field("127.0.0.1", description="Address that both ports listen on")
    port: int = Field(0, ge=0, le=65535, description="Public port; 0 lets the system choose")
    ops_port: int = Field(0, ge=0, le=65535, description="Port of /metrics and health")
    database_url: SecretStr = Field(description="DSN of this service's own database")
    redis_url: SecretStr | None = Field(None, description="Optional accelerator")
    amqp_url: SecretStr | None = Field(None, description="Optional bus")
    service_key: SecretStr = Field(description="Own Ed25519 private key, PEM")
    service_keys_dir: Path = Field(description="Directory of <service>.pub, one PEM each")
    drain_timeout_s: float = Field(15.0, gt=0, le=300, description="Time for running work to end")
    unready_s: float = Field(0.0, ge=0, description="Time between unready and closed sockets")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    mainstay_parent_pid: int | None = Field(None, description="End when this parent is gone")
    postgres_pool_size: int = Field(8, ge=2, le=100, description="Connections per process")


class ShopifySettings(Settings):
    """The app at Shopify, for the two services that deal with it. Unset: what needs it answers 503
    `shopify_not_configured`."""

    shopify_api_key: str | None = Field(None, description="Client id of the app")
    shopify_api_secret: SecretStr | None = Field(None, description="Client secret of the app")
    shopify_api_secret_old: SecretStr | None = Field(
        None, description="The secret before, while it is being rotated"
    )
    shopify_scopes: str = Field("", description="Access scopes that the app asks for, by comma")
    shopify_app_url: str | None = Field(None, description="Public address of the gateway")
    shopify_shop_origin: str = Field(
        "https://{shop}", description="How a shop is called; another one is for tests"
    )
    shopify_shop_suffixes: str = Field(
        "", description="Domains of shops besides myshopify.com, by comma"
    )

    @field_validator("shopify_shop_origin")
    @classmethod
    def _names_the_shop(cls, origin: str) -> str:
        if "{shop}" not in origin:
            raise ValueError("needs {shop}")
        return https_or_loopback(origin)

    @field_validator("shopify_app_url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        return None if url is None else https_or_loopback(url).rstrip("/")

    @property
    def shopify_secrets(self) -> tuple[str, ...]:
        """The current secret, then the old one."""
        both = (self.shopify_api_secret, self.shopify_api_secret_old)
        return tuple(each.get_secret_value() for each in both if each is not None)

    @property
    def shopify_suffixes(self) -> tuple[str, ...]:
        suffixes = [each.strip().lower() for each in self.shopify_shop_suffixes.split(",")]
        return tuple(each for each in suffixes if each)

    def shops(self) -> Shops:
        return Shops(origin=self.shopify_shop_origin, suffixes=self.shopify_suffixes)


Model = TypeVar("Model", bound=Settings)


def load(model: type[Model], environ: Mapping[str, str] | None = None) -> Model:
    """Read, or raise SettingsError naming every fault at once."""
    values, faults = _given(model, os.environ if environ is None else environ)
    unread = {fault.partition("_FILE:")[0] for fault in faults}
    try:
        loaded = model.model_validate(values)
    except ValidationError as error:
        said = [(".".join(map(str, e["loc"])).upper(), e["msg"]) for e in error.errors()]
        faults += [f"{name}: {message}" for name, message in said if name not in unread]
    if faults:
        raise SettingsError("; ".join(faults))
    return loaded


def _given(model: type[Settings], environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Values by field, empty ones left out, and the files that cannot be read. Only our own
    names count: `SSL_CERT_FILE` and the like are other people's."""
    values, faults = {}, []
    for field in model.model_fields:
        name = field.upper()
        if environ.get(name):
            values[field] = environ[name]
        elif path := environ.get(f"{name}_FILE"):
            try:
                values[field] = Path(path).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                faults.append(f"{name}_FILE: cannot be read: {type(error).__name__}")
    return values, faults


def redacted(settings: Settings) -> dict[str, Any]:
    """Every setting as plain JSON, secrets as `**********`."""
    return settings.model_dump(mode="json")


def secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None


def https_or_loopback(url: str) -> str:
    """Pass a URL that may carry secrets; refuse one that sends them in clear."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return url
    raise ValueError("must be https, or http to a loopback address")


def _is_loopback(host: str) -> bool:
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
