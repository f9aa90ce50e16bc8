"""The environment of ratelimit-service."""

from pydantic import Field

from chassis.settings import Settings


class ApiSettings(Settings):
    """Redis decides when `redis_url` is there and answers; Postgres when not."""

    ratelimit_decision_s: float = Field(
        0.25,
        ge=0.05,
        le=5,
        description="Time Postgres has for a batch before replicas decide alone",
    )
    ratelimit_usage_hours: int = Field(
        24, ge=1, le=24 * 31, description="Hours that counts of shops are kept"
    )
    gateway_url: str | None = Field(
        None, description="Where the gateway takes events while there is no bus"
    )
