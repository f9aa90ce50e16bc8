"""The gateway's environment."""

from pydantic import Field, SecretStr

from chassis.settings import ShopifySettings


class GatewaySettings(ShopifySettings):
    mainstay_admin_key: SecretStr | None = Field(
        None, min_length=32, description="Bootstrap key with all scopes"
    )
    trusted_hops: int = Field(0, ge=0, le=10, description="Proxies of ours in front")
    queue_service_url: str = Field(description="Where queue-service answers")
    session_service_url: str = Field(description="Where session-service answers")
    ratelimit_service_url: str = Field(description="Where ratelimit-service answers")
    queue_service_ops_url: str | None = Field(None, description="Its health; default: its URL")
    session_service_ops_url: str | None = Field(None, description="Its health; default: its URL")
    ratelimit_service_ops_url: str | None = Field(None, description="Its health; default: its URL")
    queue_worker_ops_url: str | None = Field(None, description="Health of the worker, if known")
    gateway_cache_keys: SecretStr | None = Field(
        None,
        description="`k2:base64,k1:base64`: seal cached answers; default: made of the service key",
    )
    gateway_cache_bytes: int = Field(
        32 * 1024 * 1024, ge=0, description="Bytes of answers kept in memory"
    )
    gateway_events_kept_d: float = Field(3.0, gt=0, description="Days that events are kept")
    gateway_replicas: int = Field(
        1, ge=1, description="Gateways that share a limit while ratelimit-service is away"
    )
