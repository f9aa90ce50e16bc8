"""The environment of ratelimit-service: what every service needs, and nothing more."""

from chassis.settings import Settings


class ApiSettings(Settings):
    """Redis decides when `redis_url` is there and answers; Postgres when not."""
