"""The environment of session-service."""

from pydantic import Field, SecretStr, field_validator

from chassis import crypto
from chassis.settings import ShopifySettings


class SessionSettings(ShopifySettings):
    session_keys: SecretStr = Field(
        description="`k2:base64,k1:base64`, 32 bytes each: the first seals, all of them open"
    )
    session_cleanup_grace_s: float = Field(
        3600.0, ge=0, description="Seconds a session is kept after the last of its tokens ended"
    )
    gateway_url: str | None = Field(
        None, description="Where the gateway takes events while there is no bus"
    )

    ratelimit_service_url: str | None = Field(
        None, description="Who paces calls of the Admin API; unset: nobody does"
    )

    @field_validator("session_keys")
    @classmethod
    def _usable(cls, keys: SecretStr) -> SecretStr:
        try:
            crypto.Keyring(keys.get_secret_value())
        except ValueError:
            raise ValueError("needs name:key, each key 32 bytes of base64") from None
        return keys
